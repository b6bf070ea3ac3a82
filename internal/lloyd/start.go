// SPDX-License-Identifier: Apache-2.0

package lloyd

import (
	"container/heap"
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
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
	if f.steps.Iterates {
		return f.pass(&Step{Kind: Seed, K: a.K, Mean: f.mean, Centroids: f.centroids, Weights: a.Weights, Distance: f.distance, WeightScale: math.Ldexp(1, f.precision), Seed: a.Seed})
	}
	for i := range f.distance {
		f.distance[i] = float32(math.Inf(1))
	}
	f.push(nil, f.distance)
	taken := make([]bool, a.K) // of the first K rows, those that are centres
	for t := range a.K {
		row, err := f.draw(t, taken)
		if err != nil {
			return err
		}
		if row < a.K {
			taken[row] = true
		}
		c := f.centroids[t*a.D:][:a.D]
		if err := f.centred(c, row); err != nil {
			return err
		}
		s := Step{Kind: Distance, KeepMin: true, K: 1, Mean: f.mean, Centroids: c, Distance: f.distance}
		if err := f.pass(&s); err != nil {
			return err
		}
	}
	return nil
}

// centred writes row i less the mean to dst.
func (f *fit) centred(dst []float32, i int) error {
	x, err := f.points(i, 1)
	if err != nil {
		return err
	}
	unit := float32(1)
	if f.unit != nil {
		unit = f.unit[i]
	}
	for p, v := range x {
		dst[p] = float32(v*unit) - f.mean[p]
	}
	return nil
}

// draw returns the row of the t-th centre.
func (f *fit) draw(t int, taken []bool) (int, error) {
	a := f.a
	seeded := func(total uint64) int64 { return int64(canon.Choose(a.Seed, uint64(t), total)) }
	distance := f.distance
	if t == 0 { // by weight alone
		if a.Weights == nil {
			return int(seeded(uint64(a.N))), nil
		}
		distance = make([]float32, a.N)
		for i := range distance {
			distance[i] = 1
		}
	}
	s := Step{Kind: Potential, Weights: a.Weights, Distance: distance, Sums: make([]int64, (a.N-1)/canon.Chunk+1), WeightScale: math.Ldexp(1, f.precision)}
	if err := f.pass(&s); err != nil {
		return 0, err
	}
	var total int64
	for i, v := range s.Sums {
		if v < 0 {
			return 0, backends.Fail(backends.ErrBackend, backends.OpKMeans, a.Shape(), "added up distances of rows from %d on to %d", i*canon.Chunk, v)
		}
		total += v
	}
	if total == 0 { // every point is where a centre is already: the lowest that is none
		return slices.Index(taken, false), nil
	}
	r := seeded(uint64(total))
	b := 0
	for ; r >= s.Sums[b]; b++ {
		r -= s.Sums[b]
	}
	if err := f.pull(nil, distance[b*canon.Chunk:min((b+1)*canon.Chunk, a.N)]); err != nil {
		return 0, err
	}
	for i := b * canon.Chunk; i < min((b+1)*canon.Chunk, a.N); i++ {
		v := float64(distance[i])
		if a.Weights != nil {
			v *= float64(a.Weights[i])
		}
		if r -= rint(v * s.WeightScale); r < 0 {
			return i, nil
		}
	}
	return 0, backends.Fail(backends.ErrBackend, backends.OpKMeans, a.Shape(), "added up distances of rows from %d on to %d, which they are not", b*canon.Chunk, s.Sums[b])
}

// refill gives each empty cluster the point that is farthest from its centroid, taken out of the sums of the cluster it
// was in; the integer sums make that exact.
func (f *fit) refill() error {
	a := f.a
	var far farthest
	for j := range a.K {
		if f.mass(j) > 0 {
			continue
		}
		if far.distance == nil {
			if err := f.distances(); err != nil {
				return err
			}
			if err := f.pull(a.Labels, f.distance); err != nil {
				return err
			}
			far.fill(f.distance)
		}
		for moved := false; !moved && len(far.rows) > 0; {
			row := int(heap.Pop(&far).(int32))
			if f.distance[row] == 0 {
				return nil // duplicates only: the centroid stays where it is
			}
			var err error
			if moved, err = f.move(row, j); err != nil {
				return err
			}
		}
	}
	return nil
}

// farthest is a heap of rows, the greatest distance first, of equals the lowest row.
type farthest struct {
	distance []float32
	rows     []int32
}

func (h *farthest) fill(distance []float32) {
	h.distance, h.rows = distance, make([]int32, len(distance))
	for i := range h.rows {
		h.rows[i] = int32(i)
	}
	heap.Init(h)
}

func (h *farthest) Len() int { return len(h.rows) }
func (h *farthest) Less(i, j int) bool {
	p, q := h.rows[i], h.rows[j]
	return h.distance[p] > h.distance[q] || h.distance[p] == h.distance[q] && p < q
}
func (h *farthest) Swap(i, j int) { h.rows[i], h.rows[j] = h.rows[j], h.rows[i] }
func (h *farthest) Push(any)      {}
func (h *farthest) Pop() any {
	last := h.rows[len(h.rows)-1]
	h.rows = h.rows[:len(h.rows)-1]
	return last
}

// move takes a row from its cluster to the empty cluster j, unless it has no weight or is all that its cluster has.
func (f *fit) move(row, j int) (bool, error) {
	a := f.a
	from, err := f.label(row)
	if err != nil {
		return false, err
	}
	w, q := 1.0, int64(1)
	if a.Weights != nil {
		w = float64(a.Weights[row])
		q = rint(w * math.Ldexp(1, f.weightExp))
	}
	if q == 0 || f.mass(from) <= q {
		return false, nil
	}
	x := make([]float32, a.D)
	if err = f.centred(x, row); err != nil {
		return false, err
	}
	clear(f.sums[j*a.D:][:a.D]) // rows of zero weight may have left nothing but zeros here
	for p, v := range x {
		s := rint(w * float64(v) * f.scale[p])
		f.sums[from*a.D+p] -= s
		f.sums[j*a.D+p] = s
	}
	f.counts[from]--
	f.counts[j]++
	f.current = false // the label still says from
	if f.weights != nil {
		f.weights[from] -= q
		f.weights[j] = q
	}
	return true, nil
}
