// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"math"

	"github.com/setun-compute/setun/internal/canon"
)

// cluster is a leaf of the path, or several that were joined.
type cluster struct {
	rows []int32
	mean []float64
}

// clusters returns those of the path's level k.
func (p *path) clusters(k int) []cluster {
	list := []cluster{{p.order, p.root.mean}}
	first := []int{0}
	for _, s := range p.splits[:k-1] {
		c, at := list[s.column], s.mid-first[s.column]
		list[s.column] = cluster{c.rows[:at:at], s.halves[0].mean}
		list = append(list, cluster{c.rows[at:], s.halves[1].mean})
		first = append(first, s.mid)
	}
	return list
}

// mend joins clusters that a split tore apart: a bisecting run cannot undo a cut through the middle of a cluster that lay between two others. Each cluster is
// joined with the one nearest to it when along the line through their means the two show no more separation than one peak has; again until none is.
func (p *path) mend(list []cluster) ([]cluster, error) {
	for before := 0; len(list) != before; {
		before = len(list)
		for i := 0; i < len(list) && len(list) > 1; i++ {
			if err := p.ctx.Err(); err != nil {
				return nil, err
			}
			j := nearest(list, i)
			if p.between(list[i], list[j]) > onePeak {
				continue
			}
			a, b := min(i, j), max(i, j)
			list[a] = join(list[a], list[b])
			list = append(list[:b], list[b+1:]...)
		}
	}
	return list, nil
}

// join returns a and b as one cluster.
func join(a, b cluster) cluster {
	n, m := float64(len(a.rows)), float64(len(b.rows))
	mean := make([]float64, len(a.mean))
	for j := range mean {
		mean[j] = (float64(n*a.mean[j]) + float64(m*b.mean[j])) / (n + m)
	}
	return cluster{append(append([]int32(nil), a.rows...), b.rows...), mean}
}

// nearest returns the cluster whose mean is nearest to that of cluster i.
func nearest(list []cluster, i int) int {
	best, least := -1, math.Inf(1)
	for j := range list {
		d := 0.0
		for q, v := range list[j].mean {
			t := v - list[i].mean[q]
			d += float64(t * t)
		}
		if j != i && d < least {
			best, least = j, d
		}
	}
	return best
}

// between is the separation ratio of the rows of a and b, or of a sample of them, along the line through their means.
func (p *path) between(a, b cluster) float64 {
	var rows []float32
	for _, c := range []cluster{a, b} {
		n := len(c.rows)
		m := min(n, trainRows)
		for i := range m {
			low, high := i*n/m, (i+1)*n/m
			row := int(c.rows[low+int(canon.Choose(p.o.Seed, uint64(i), uint64(high-low)))])
			rows = append(rows, p.points[row*p.dim:][:p.dim]...)
		}
	}
	return separate(rows, append(narrow(a.mean), narrow(b.mean)...), p.dim).Ratio
}

// narrow rounds to float32.
func narrow(v []float64) []float32 {
	out := make([]float32, len(v))
	for i := range v {
		out[i] = float32(v[i])
	}
	return out
}
