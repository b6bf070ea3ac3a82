// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"math"

	"github.com/setun-compute/setun/internal/canon"
)

// Rows times clusters of the table of distances that silhouettes are computed from, 8 MiB; but never fewer rows than leastSample.
const (
	sampleCells = 1 << 20
	leastSample = 1024
)

// silhouettes returns the simplified silhouette of every k on the path, and how many rows it is the mean of: Hruschka, de Castro, Campello (2004);
// Vendramin, Campello, Hruschka, Relative clustering validity criteria (2010). With a the distance of a point to its own centroid and b to the nearest
// other one it is the mean of (b − a)/max(a, b); 0 for a point alone in its cluster, and for k = 1.
//
// A path keeps all centroids but one from a k to the next, so a row needs two new distances a step. Beyond sampleCells a sample of rows serves: one, at
// random, of each of equally many ranges.
func (p *path) silhouettes() (values []float64, sampled int, err error) {
	if len(p.splits) == 0 {
		return []float64{0}, 0, nil
	}
	m := min(p.n, max(leastSample, sampleCells/len(p.leaves)))
	place := make([]int32, p.n) // of each row in p.order
	for at, row := range p.order {
		place[row] = int32(at)
	}
	sample := make([]int32, m)
	for i := range sample {
		low, high := i*p.n/m, (i+1)*p.n/m
		sample[i] = int32(low + int(canon.Choose(p.o.Seed, uint64(i), uint64(high-low))))
	}
	rows := p.gather(sample)
	away := func(mean []float64) []float64 {
		d := make([]float64, m)
		for i := range d {
			d[i] = distance(rows[i*p.dim:][:p.dim], mean)
		}
		return d
	}
	columns, sizes := [][]float64{away(p.root.mean)}, []int{p.n} // the distances to each centroid; its rows
	own := make([]int32, m)                                      // cluster of each sampled row
	each, other := make([]float64, m), make([]float64, m)
	values = append(values, 0)
	for _, s := range p.splits {
		if err := p.ctx.Err(); err != nil {
			return nil, 0, err
		}
		right := int32(len(columns))
		columns[s.column], sizes[s.column] = away(s.halves[0].mean), s.halves[0].n
		columns, sizes = append(columns, away(s.halves[1].mean)), append(sizes, s.halves[1].n)
		for i, row := range sample {
			other[i] = math.Inf(1)
			if int(own[i]) == s.column && int(place[row]) >= s.mid {
				own[i] = right
			}
		}
		for c, column := range columns {
			for i, d := range column {
				if d < other[i] && int(own[i]) != c {
					other[i] = d
				}
			}
		}
		for i, c := range own {
			a, b := columns[c][i], other[i]
			if each[i] = 0; sizes[c] > 1 && max(a, b) > 0 {
				each[i] = (b - a) / max(a, b)
			}
		}
		values = append(values, canon.Sum(each)/float64(m))
	}
	return values, m, nil
}

// distance is ‖x − c‖, summed in four lanes, which are four times as fast as one.
func distance(x []float32, c []float64) float64 {
	c = c[:len(x)]
	var s [4]float64
	whole := len(x) &^ 3
	for j := 0; j < whole; j += 4 {
		a, b, d, e := float64(x[j])-c[j], float64(x[j+1])-c[j+1], float64(x[j+2])-c[j+2], float64(x[j+3])-c[j+3]
		s[0] += float64(a * a)
		s[1] += float64(b * b)
		s[2] += float64(d * d)
		s[3] += float64(e * e)
	}
	for j := whole; j < len(x); j++ {
		t := float64(x[j]) - c[j]
		s[j-whole] += float64(t * t)
	}
	return math.Sqrt((s[0] + s[2]) + (s[1] + s[3]))
}
