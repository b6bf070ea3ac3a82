// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"fmt"
	"math/rand/v2"

	"github.com/setun-compute/setun/backends"
)

func (s *suite) clusters() {
	segments := []int{0, 1, 4095, 0, 4096, 4097, 33, 7, 70_001, 1, 12_289, 100, 0}
	if s.o.Short {
		segments = []int{0, 1, 4097, 0, 33}
	}
	for ki, kind := range kinds {
		r := rand.New(rand.NewPCG(uint64(ki), 1))
		offsets, n := []int64{0}, 0
		for _, l := range segments {
			n += l
			offsets = append(offsets, int64(n))
		}
		s.clustersCases(fmt.Sprintf("%s segments", kind), s.data(kind, n), len(segments), backends.Clusters{Offsets: offsets}, r)
		for _, n := range s.sizes() {
			s.clustersCases(fmt.Sprintf("%s one segment of %d", kind, n), s.data(kind, n), 1, backends.Clusters{Offsets: []int64{0, int64(n)}}, r)
		}
		for _, shape := range [][3]int{{1, 1, 1}, {7, 1, 3}, {40, 33, 4}, {5, 4097, 2}, {3, 70_001, 2}, {100, 100, 200}, {9001, 3, 2}} {
			rows, cols, k := shape[0], shape[1], shape[2]
			s.clustersCases(fmt.Sprintf("%s %d rows of %d", kind, rows, cols), s.data(kind, rows*cols), k, backends.Clusters{Labels: labelled(rows, k, r.IntN)}, r)
		}
	}
	for _, n := range s.sizes() {
		run := func(a backends.Clusters) func(c *call, x []float32) {
			return func(c *call, x []float32) {
				a := a
				v := inout(c, x)
				a.X, a.Dst, a.Norms = v, v, output[float64](c, len(a.Radii))
				c.failed(c.Backend.ConstrainClusters(c.Kernel, &a))
				record(&c.out, "value", v) // stays as it was
			}
		}
		half, labels := int64(n/2), make([]int32, n)
		labels[n-1] = -1
		s.nonFinite(n, run(backends.Clusters{Offsets: []int64{0, half, half, int64(n)}, Radii: []float64{0, 1, 1}}))
		s.nonFinite(n, run(backends.Clusters{Labels: labels, Radii: []float64{0}}))
	}
}

// labelled draws the cluster of each row, −1 among them.
func labelled(rows, k int, intN func(int) int) []int32 {
	labels := make([]int32, rows)
	for i := range labels {
		labels[i] = int32(intN(k+1)) - 1
	}
	return labels
}

// clustersCases runs one shape with three draws of radii, in place and not.
func (s *suite) clustersCases(name string, x []float32, k int, a backends.Clusters, r *rand.Rand) {
	for range 3 {
		a.Radii = make([]float64, k)
		for c := range a.Radii {
			a.Radii[c] = radii[r.IntN(len(radii))]
		}
		for _, inPlace := range []bool{false, true} {
			s.clustersCase(fmt.Sprintf("%s in place=%v", name, inPlace), x, inPlace, a)
		}
	}
}

func (s *suite) clustersCase(name string, x []float32, inPlace bool, a backends.Clusters) {
	s.compare(name, func(c *call) {
		a := a
		if inPlace {
			a.X = inout(c, x)
			a.Dst = a.X
		} else {
			a.X, a.Dst = input(c, x), output[float32](c, len(x))
		}
		a.Offsets, a.Labels, a.Radii, a.Norms = input(c, a.Offsets), input(c, a.Labels), input(c, a.Radii), output[float64](c, len(a.Radii))
		if !c.failed(c.Backend.ConstrainClusters(c.Kernel, &a)) {
			record(&c.out, "norm", a.Norms)
			record(&c.out, "value", a.Dst)
		}
	})
}

func (s *suite) randomClusters(d *draws) {
	rows, cols := d.matrix()
	kind, x := d.values(rows * cols)
	a := backends.Clusters{Radii: make([]float64, 1+d.upTo(20))}
	k := len(a.Radii)
	for c := range a.Radii {
		a.Radii[c] = d.radius()
	}
	if d.upTo(1) == 0 {
		a.Labels = labelled(rows, k, func(n int) int { return d.upTo(n - 1) })
	} else {
		a.Offsets = make([]int64, k+1)
		for c, left := 1, len(x); c <= k; c++ {
			a.Offsets[c] = a.Offsets[c-1] + int64(d.upTo(left))
			left = len(x) - int(a.Offsets[c])
		}
		a.Offsets[k] = int64(len(x))
	}
	s.clustersCase(fmt.Sprintf("%s %d rows of %d, %d clusters, labels=%v", kind, rows, cols, k, a.Labels != nil), x, d.upTo(1) == 0, a)
}
