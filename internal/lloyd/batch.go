// SPDX-License-Identifier: Apache-2.0

package lloyd

import (
	"math"

	"github.com/setun-compute/setun/internal/canon"
)

// quiet is how many mini-batches in a row must move the centroids less than the tolerance: one alone may be small by chance.
const quiet = 10

// batches is iterate with a sample of the rows at a time (Sculley, WWW 2010). Every centroid is the mean of all rows that it was given so far: a step
// towards a row with a rate of one over their number is just that. So the sums go on from batch to batch, in integers. Rows are drawn with replacement.
func (f *fit) batches() error {
	a := f.a
	if _, err := f.points(0, a.N); err != nil { // batches are put together from rows anywhere
		return err
	}
	limit := 0.0
	if a.Tol > 0 {
		v, err := f.spread()
		if err != nil {
			return err
		}
		limit = a.Tol * v
	}
	s := Step{N: a.Batch, X: make([]float32, a.Batch*a.D), Labels: make([]int32, a.Batch)}
	if a.Weights != nil {
		s.Weights = make([]float32, a.Batch)
	}
	if f.unit != nil {
		s.Unit = make([]float32, a.Batch)
	}
	a.Converged = false
	still := 0
	for a.Iterations = 0; a.Iterations < a.MaxIter && !a.Converged; {
		for i := range a.Batch {
			row := int(canon.Choose(a.Seed, uint64(a.K)+uint64(a.Iterations)*uint64(a.Batch)+uint64(i), uint64(a.N)))
			copy(s.X[i*a.D:][:a.D], a.X[row*a.D:][:a.D])
			s.Labels[i] = -1
			if a.Weights != nil {
				s.Weights[i] = a.Weights[row]
			}
			if f.unit != nil {
				s.Unit[i] = f.unit[row]
			}
		}
		b := f.assignment()
		b.N, b.X, b.Labels, b.Unit = s.N, s.X, s.Labels, s.Unit
		b.Scale, b.Sums, b.Counts = f.scale, f.sums, f.counts
		if a.Weights != nil {
			b.Weights, b.WeightSums, b.WeightScale = s.Weights, f.weights, math.Ldexp(1, f.weightExp)
		}
		if err := f.over(&b); err != nil {
			return err
		}
		f.tally(&b, 1)
		a.Iterations++
		if still++; f.update(true) > limit {
			still = 0
		}
		a.Converged = still >= quiet
		if a.Progress != nil {
			a.Progress(a.Iterations, int64(a.Batch))
		}
	}
	f.unlabelled()
	_, err := f.assign(false)
	return err
}
