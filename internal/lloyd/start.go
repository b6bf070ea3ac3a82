// SPDX-License-Identifier: Apache-2.0

package lloyd

import (
	"math"
	"slices"

	"github.com/setun-compute/setun/internal/canon"
)

// rounder added to and taken from a float64 of magnitude at most 2^51 rounds it to the nearest integer, ties to even.
const rounder = 3 << 51

func rint(v float64) int64 { return int64((v + rounder) - rounder) }

// start chooses the first centroids by k-means++ unless they were given: Arthur and Vassilvitskii, SODA 2007, with one
// draw a centre and integer prefix sums, so that every backend draws the same rows.
func (f *fit) start() error {
	a := f.a
	if a.Initial != nil {
		return nil
	}
	for i := range f.distance {
		f.distance[i] = float32(math.Inf(1))
	}
	taken := make([]int, 0, a.K)
	for t := range a.K {
		row := f.draw(t, taken)
		taken = append(taken, row)
		c := f.centroids[t*a.D:][:a.D]
		f.centred(c, row)
		s := Step{Kind: Distance, KeepMin: true, K: 1, Mean: f.mean, Centroids: c, Distance: f.distance}
		if _, err := f.slices(s, a.D); err != nil {
			return err
		}
	}
	return nil
}

// centred writes row i less the mean to dst.
func (f *fit) centred(dst []float32, i int) {
	for p, v := range f.a.X[i*f.a.D:][:f.a.D] {
		dst[p] = v - f.mean[p]
	}
}

// draw returns the row of the t-th centre.
func (f *fit) draw(t int, taken []int) int {
	a := f.a
	seeded := func(total uint64) int64 { return int64(canon.Choose(a.Seed, uint64(t), total)) }
	potential := func(i int) float64 { return float64(f.distance[i]) }
	switch {
	case t == 0 && a.Weights == nil:
		return int(seeded(uint64(a.N)))
	case t == 0:
		potential = func(i int) float64 { return float64(a.Weights[i]) }
	case a.Weights != nil:
		potential = func(i int) float64 { return float64(a.Weights[i]) * float64(f.distance[i]) }
	}
	var largest float64
	for i := range a.N {
		largest = max(largest, potential(i))
	}
	if largest == 0 { // every point is a centre already
		for i := range a.N {
			if !slices.Contains(taken, i) {
				return i
			}
		}
	}
	_, e := math.Frexp(largest)
	scale := math.Ldexp(1, f.precision-e)
	blocks := make([]int64, (a.N-1)/canon.Chunk+1)
	var total int64
	for i := range a.N {
		q := rint(potential(i) * scale)
		blocks[i/canon.Chunk] += q
		total += q
	}
	r := seeded(uint64(total))
	b := 0
	for ; r >= blocks[b]; b++ {
		r -= blocks[b]
	}
	i := b * canon.Chunk
	for ; ; i++ {
		if r -= rint(potential(i) * scale); r < 0 {
			return i
		}
	}
}

// refill gives each empty cluster the point that is farthest from its centroid, taken out of the sums of the cluster it
// was in; the integer sums make that exact.
func (f *fit) refill() error {
	a := f.a
	var order []int32 // rows, farthest first
	next := 0
	for j := range a.K {
		if f.mass(j) > 0 {
			continue
		}
		if order == nil {
			if err := f.distances(); err != nil {
				return err
			}
			order = make([]int32, a.N)
			for i := range order {
				order[i] = int32(i)
			}
			slices.SortStableFunc(order, func(p, q int32) int {
				switch dp, dq := f.distance[p], f.distance[q]; {
				case dp > dq:
					return -1
				case dp < dq:
					return 1
				}
				return 0
			})
		}
		for ; next < len(order); next++ {
			row := int(order[next])
			if f.distance[row] == 0 {
				return nil // duplicates only: the centroid stays where it is
			}
			if f.move(row, j) {
				next++
				break
			}
		}
	}
	return nil
}

// move takes a row from its cluster to the empty cluster j, unless it has no weight or is all that its cluster has.
func (f *fit) move(row, j int) bool {
	a := f.a
	from := int(a.Labels[row])
	w, q := 1.0, int64(1)
	if a.Weights != nil {
		w = float64(a.Weights[row])
		q = rint(w * math.Ldexp(1, f.weightExp))
	}
	if q == 0 || f.mass(from) <= q {
		return false
	}
	x := make([]float32, a.D)
	f.centred(x, row)
	clear(f.sums[j*a.D:][:a.D]) // rows of zero weight may have left nothing but zeros here
	for p, v := range x {
		s := rint(w * float64(v) * f.scale[p])
		f.sums[from*a.D+p] -= s
		f.sums[j*a.D+p] = s
	}
	f.counts[from]--
	f.counts[j]++
	if f.weights != nil {
		f.weights[from] -= q
		f.weights[j] = q
	}
	return true
}
