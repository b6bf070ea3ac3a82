// SPDX-License-Identifier: Apache-2.0

package lloyd

import (
	"context"
	"errors"
	"math"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/canon"
)

// fit is the state of one run.
type fit struct {
	a     *backends.KMeans
	ctx   context.Context
	stop  atomic.Int32 // non-zero once ctx has ended
	steps Steps

	precision int       // B of docs/numerics.md
	unit      []float32 // N; nil for L2
	mean      []float32 // D
	centroids []float32 // K*D, centred
	exponent  []int     // D: of the integer sums
	scale     []float64 // 2^exponent
	weightExp int
	sums      []int64 // K*D
	counts    []int64
	weights   []int64   // Σ of integer weights; nil without weights
	scores    int64     // that assignments were asked for
	exact     int64     // of those, computed in the canonical chain
	current   bool      // sums, counts and weights are those of a.Labels
	moved     int64     // labels that the last assignment changed
	distance  []float32 // N
}

// Run clusters a's points with the given steps and fills a's outputs. It returns the context's error when that ends first; outputs are unspecified then.
func Run(ctx context.Context, a *backends.KMeans, steps Steps) error {
	f := &fit{a: a, ctx: ctx, steps: steps,
		precision: min(51, 62-bits.Len64(uint64(max(int64(a.N), int64(a.Batch)*int64(a.MaxIter))-1))),
		mean:      make([]float32, a.D), centroids: make([]float32, a.K*a.D),
		exponent: make([]int, a.D), scale: make([]float64, a.D),
		sums: make([]int64, a.K*a.D), counts: make([]int64, a.K),
		distance: make([]float32, a.N),
	}
	if a.Weights != nil {
		f.weights = make([]int64, a.K)
	}
	defer context.AfterFunc(ctx, func() { f.stop.Store(1) })()
	phases := []func() error{f.directions, f.centre, f.start, f.iterate, f.finish}
	if a.Batch > 0 {
		phases[3] = f.batches
	}
	for _, phase := range phases {
		if err := phase(); err != nil {
			return err
		}
	}
	return nil
}

// pass does a step over all points.
func (f *fit) pass(s *Step) error {
	s.X, s.N, s.Unit = f.a.X, f.a.N, f.unit
	return f.over(s)
}

// over does a step over the rows that it has.
func (f *fit) over(s *Step) error {
	s.D, s.Cancel = f.a.D, &f.stop
	err := f.ctx.Err()
	if err == nil {
		err = f.steps.Step(s)
	}
	switch {
	case f.ctx.Err() != nil:
		return f.ctx.Err()
	case errors.Is(err, backends.ErrNonFinite):
		return f.locate()
	case errors.Is(err, context.Canceled):
		return backends.Fail(backends.ErrBackend, backends.OpKMeans, f.a.Shape(), "stopped, though nothing asked it to")
	}
	return err
}

// pull makes sure that the host sees what steps have written.
func (f *fit) pull(labels []int32, distance []float32) error {
	if f.steps.Pull == nil {
		return nil
	}
	return f.steps.Pull(labels, distance)
}

// push makes sure that steps see what the host has written.
func (f *fit) push(labels []int32, distance []float32) {
	if f.steps.Push != nil {
		f.steps.Push(labels, distance)
	}
}

// unlabelled takes every row's label away.
func (f *fit) unlabelled() {
	for i := range f.a.Labels {
		f.a.Labels[i] = -1
	}
	f.push(f.a.Labels, nil)
}

// points makes sure that the host sees n rows of X from row i on, and returns them.
func (f *fit) points(i, n int) ([]float32, error) {
	x := f.a.X[i*f.a.D:][:n*f.a.D]
	if f.steps.Points == nil {
		return x, nil
	}
	return x, f.steps.Points(x)
}

// locate names the first value that is not finite.
func (f *fit) locate() error {
	if _, err := f.points(0, f.a.N); err != nil {
		return err
	}
	for i, v := range f.a.X {
		if v-v != 0 {
			return backends.Fail(backends.ErrNonFinite, backends.OpKMeans, f.a.Shape(), "row %d, column %d = %v", i/f.a.D, i%f.a.D, v)
		}
	}
	return backends.Fail(backends.ErrBackend, backends.OpKMeans, f.a.Shape(), "reported a non-finite value where there is none")
}

// centre finds the column means, the scales of the integer sums, and refuses values whose scores could overflow.
func (f *fit) centre() error {
	a := f.a
	low, high := make([]float32, a.D), make([]float32, a.D)
	for j := range low {
		low[j], high[j] = float32(math.Inf(1)), float32(math.Inf(-1))
	}
	if err := f.pass(&Step{Kind: Range, Low: low, High: high}); err != nil {
		return err
	}
	for j := range low {
		f.setScale(j, max(-low[j], high[j]), 0)
	}
	totals := make([]int64, a.D)
	if err := f.pass(&Step{Kind: Mean, Scale: f.scale, Sums: totals}); err != nil {
		return err
	}
	if a.Weights != nil {
		var heaviest float32
		for _, w := range a.Weights {
			heaviest = max(heaviest, w)
		}
		f.weightExp = f.precision - exponentOf(heaviest)
	}
	var reach float64
	for j := range f.mean {
		f.mean[j] = float32(math.Ldexp(float64(totals[j])/float64(a.N), -f.exponent[j]))
		x := max(-(low[j] - f.mean[j]), high[j]-f.mean[j])
		reach = max(reach, float64(x))
		weightBits := 0
		if a.Weights != nil {
			weightBits = f.precision - f.weightExp
		}
		f.setScale(j, x, weightBits)
	}
	initial, err := f.given()
	if err != nil {
		return err
	}
	for i, c := range initial {
		f.centroids[i] = c - f.mean[i%a.D]
		reach = max(reach, math.Abs(float64(f.centroids[i])))
	}
	// No squared distance may overflow: each is at most 4·D·reach², and D roundings add less than a factor of 2 up to D = 2^23, another one for each 2^23 more.
	if most := 125 - a.D>>23; !(float64(a.D)*reach*reach < math.Ldexp(1, most)) {
		return backends.Fail(backends.ErrRange, backends.OpKMeans, a.Shape(), "values reach %.3g from their mean; dimension × reach² must stay below 2^%d", reach, most)
	}
	return nil
}

// exponentOf returns E with 2^(E−1) <= m < 2^E; 0 for m = 0.
func exponentOf(m float32) int {
	_, e := math.Frexp(float64(m))
	return e
}

// setScale chooses the power of two for column j, whose magnitudes reach m, so that no int64 sum of N terms overflows.
func (f *fit) setScale(j int, m float32, weightBits int) {
	f.exponent[j] = 0
	if m > 0 && !math.IsInf(float64(m), 0) {
		f.exponent[j] = f.precision - exponentOf(m) - weightBits
	}
	f.scale[j] = math.Ldexp(1, f.exponent[j])
}

// assignment is the step that labels points with the nearest of f.centroids.
func (f *fit) assignment() Step {
	bias := make([]float32, f.a.K)
	for j := range bias {
		bias[j] = float32(-0.5 * canon.SumSquares(f.centroids[j*f.a.D:][:f.a.D]))
	}
	return Step{Kind: Assign, K: f.a.K, Mean: f.mean, Centroids: f.centroids, Bias: bias}
}

// assign labels every point with its nearest centroid; with sums it also fills sums, counts and weights.
func (f *fit) assign(withSums bool) (changed int64, err error) {
	s := f.assignment()
	s.Labels = f.a.Labels
	if withSums {
		f.summing(&s)
	}
	err = f.pass(&s)
	f.moved = s.Changed
	f.tally(&s, 1)
	return s.Changed, err
}

// summing has a step over all points fill sums, counts and weights.
func (f *fit) summing(s *Step) {
	if s.Moved = f.current && 2*f.moved < int64(f.a.N); !s.Moved { // a row that moves is added twice
		clear(f.sums)
		clear(f.counts)
		clear(f.weights)
		f.current = true
	}
	s.Scale, s.Sums, s.Counts = f.scale, f.sums, f.counts
	if f.a.Weights != nil {
		s.Weights, s.WeightSums, s.WeightScale = f.a.Weights, f.weights, math.Ldexp(1, f.weightExp)
	}
}

// tally counts the scores of a step that assigned so many times.
func (f *fit) tally(s *Step, times int) {
	f.scores += int64(s.N) * int64(s.K) * int64(times)
	f.exact += s.Exact
}

// mass is the Σw of cluster j, in its integer unit.
func (f *fit) mass(j int) int64 {
	if f.weights != nil {
		return f.weights[j]
	}
	return f.counts[j]
}

// update moves the centroids to the means of their clusters. With measure it returns how far they went: S((c_new − c_old)²).
func (f *fit) update(measure bool) float64 {
	d := f.a.D
	unscale := make([]float64, d)
	for p, e := range f.exponent {
		unscale[p] = math.Ldexp(1, f.weightExp-e)
	}
	var old []float32
	if measure || f.unit != nil {
		old = slices.Clone(f.centroids)
	}
	for j := range f.a.K {
		w := float64(f.mass(j))
		if w == 0 {
			continue
		}
		c, sums := f.centroids[j*d:][:d], f.sums[j*d:][:d]
		for p, u := range unscale {
			c[p] = float32(float64(sums[p]) / w * u) // a power of two: exact
		}
		if f.unit != nil {
			f.toSphere(c, old[j*d:][:d])
		}
	}
	if !measure {
		return 0
	}
	var moved canon.Tree
	var chunk [canon.Chunk]float64
	for i := 0; i < len(old); i += canon.Chunk {
		n := min(canon.Chunk, len(old)-i)
		for l, c := range f.centroids[i : i+n] {
			v := float64(c) - float64(old[i+l])
			chunk[l] = float64(v * v)
		}
		moved.Add(canon.ChunkSum(chunk[:n]))
	}
	return moved.Sum()
}

// spread is V of docs/numerics.md: the mean variance of a column.
func (f *fit) spread() (float64, error) {
	a := f.a
	if err := f.pass(&Step{Kind: Distance, K: 1, Mean: f.mean, Centroids: make([]float32, a.D), Distance: f.distance}); err != nil {
		return 0, err
	}
	sum, err := f.total(nil)
	return sum / (float64(a.N) * float64(a.D)), err
}

// total is S(w·D²) over f.distance.
func (f *fit) total(weights []float32) (float64, error) {
	if err := f.pull(nil, f.distance); err != nil {
		return 0, err
	}
	var t canon.Tree
	var chunk [canon.Chunk]float64
	for i := 0; i < f.a.N; i += canon.Chunk {
		n := min(canon.Chunk, f.a.N-i)
		for j, d := range f.distance[i : i+n] {
			chunk[j] = float64(d)
			if weights != nil {
				chunk[j] *= float64(weights[i+j])
			}
		}
		t.Add(canon.ChunkSum(chunk[:n]))
	}
	return t.Sum(), nil
}

// finish computes the inertia and writes the centroids and counts that the labels belong to.
func (f *fit) finish() error {
	a := f.a
	err := f.distances()
	if err == nil {
		a.Inertia, err = f.total(a.Weights)
	}
	if err == nil {
		err = f.pull(a.Labels, nil)
	}
	if err != nil {
		return err
	}
	a.Exact = float64(f.exact) / float64(f.scores)
	clear(a.Counts)
	for i := range a.Labels {
		l, err := f.label(i)
		if err != nil {
			return err
		}
		a.Counts[l]++
	}
	for i, c := range f.centroids {
		a.Centroids[i] = float32(float64(c) + float64(f.mean[i%a.D]))
	}
	return nil
}

// label is that of a row, which a kernel has chosen.
func (f *fit) label(row int) (int, error) {
	l := int(f.a.Labels[row])
	if l < 0 || l >= f.a.K {
		return 0, backends.Fail(backends.ErrBackend, backends.OpKMeans, f.a.Shape(), "row %d got label %d", row, l)
	}
	return l, nil
}

// distances fills f.distance with every point's D² to the centroid of its label.
func (f *fit) distances() error {
	return f.pass(&Step{Kind: Distance, K: f.a.K, Mean: f.mean, Centroids: f.centroids, Labels: f.a.Labels, Distance: f.distance})
}
