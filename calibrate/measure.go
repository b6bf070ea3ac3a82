// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	gort "runtime"
	"slices"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
)

// data is what calls are measured on: normal values, as weights and steps are.
type data struct {
	x, y, dst []float32
	pulse     pulse

	weights *quant.Tensor // of the last ternary job
	rows    *quant.Activations
	made    dispatch.Shape
}

func newData(n int) *data {
	d := &data{x: make([]float32, n), y: make([]float32, n), dst: make([]float32, n)}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range d.x {
		d.x[i] = float32(r.NormFloat64())
		d.y[i] = float32(r.NormFloat64())
	}
	return d
}

// another is the same data with a destination of n values of its own, for a caller beside others.
func (d *data) another(n int) *data { return &data{x: d.x, y: d.y, dst: make([]float32, n)} }

// job is one shape to measure, with the options that belong to it.
type job struct {
	shape dispatch.Shape
	opts  quant.Options // of quantize and step; of the codes that recode and ternary-matmul read
	to    quant.Format  // of recode
}

// awake is how long an arm's own calls go before its sample: the arms before let its threads fall asleep, and the library wakes them once they have been missed for a while, which
// is no part of a call in a row of calls.
const awake = 250 * time.Microsecond

// long is from how many nanoseconds on a call is measured half as often and needs no calls before.
const long = 2e6

// iterations of a measured k-means: enough that the work around them does not dominate.
const iterations = 8

// call returns a function that does the job once, on one runtime, and returns how many parts it had.
func (d *data) call(rt *runtime.Runtime, j job) func() (parts int, err error) {
	n := int(j.shape.N)
	switch j.shape.Op {
	case backends.OpQuantize:
		q := new(quant.Tensor)
		return func() (int, error) { _, err := rt.Quantize(q, d.x[:n], j.opts); return 1, err }
	case backends.OpConstrain:
		if j.shape.Variant&dispatch.Inside != 0 {
			return func() (int, error) { _, _, err := rt.Constrain(d.x[:n], d.x[:n], math.MaxFloat64); return 1, err }
		}
		return func() (int, error) { _, _, err := rt.Constrain(d.dst[:n], d.x[:n], 1); return 1, err } // outside the ball
	case backends.OpDot:
		return func() (int, error) { _, err := rt.Dot(d.x[:n], d.y[:n]); return 1, err }
	case backends.OpClusters:
		k := int(j.shape.K)
		c := &runtime.Clusters{Radii: make([]float64, k), Offsets: make([]int64, k+1)}
		for i := range k {
			c.Radii[i], c.Offsets[i+1] = 1, int64(n*(i+1)/k)
		}
		return func() (int, error) { _, err := rt.ConstrainClusters(d.dst[:n], d.x[:n], c); return 1, err }
	case backends.OpStep:
		q := new(quant.Tensor)
		return func() (int, error) { _, _, err := rt.Step(q, d.dst[:n], d.x[:n], 1, j.opts); return 1, err }
	case backends.OpNorm2:
		return func() (int, error) { _, err := rt.Norm2(d.x[:n]); return 1, err }
	case backends.OpMatMul:
		m, depth, batch := int(j.shape.M), int(j.shape.K), int(j.shape.Batch)
		a, b, c := d.x[:batch*m*depth], d.y[:batch*depth*n], d.dst[:batch*m*n]
		return func() (int, error) {
			_, err := rt.MatMul(c, a, b, m, n, depth, runtime.MatMulOptions{Batch: batch, Fast: true})
			return 1, err
		}
	}
	switch j.shape.Op {
	case backends.OpRMSNorm, backends.OpSoftmax, backends.OpActivate, backends.OpUpdate:
		return d.rowCall(rt, j)
	case backends.OpActivations:
		dst := new(quant.Activations)
		return func() (int, error) { _, err := rt.QuantizeActivations(dst, d.x[:n], n/int(j.shape.M)); return 1, err }
	case backends.OpRecode:
		w, _, err := d.ternary(j)
		dst := new(quant.Tensor)
		return func() (int, error) {
			if err == nil {
				_, err = rt.Convert(dst, w, j.to)
			}
			return 1, err
		}
	case backends.OpTernary:
		w, x, err := d.ternary(j)
		out := make([]float32, int(j.shape.M)*n)
		return func() (int, error) {
			if err == nil {
				_, err = rt.TernaryMatMul(out, x, w)
			}
			return 1, err
		}
	}
	dim, k := int(j.shape.D), int(j.shape.K)
	var c *runtime.Clustering
	return func() (int, error) {
		var err error
		c, err = rt.KMeans(context.Background(), c, d.x[:n*dim], dim, runtime.KMeansOptions{K: k, MaxIter: iterations, Centroids: d.x[:k*dim], Fast: j.shape.Fast})
		return max(1, c.Iterations), err
	}
}

// ternary makes the operands of a job: codes of which a third is 0. The last ones are kept, because several runtimes take turns at one job.
func (d *data) ternary(j job) (*quant.Tensor, *quant.Activations, error) {
	if d.weights != nil && d.made == j.shape {
		return d.weights, d.rows, nil
	}
	cols, rows := j.opts.Cols, int(j.shape.N)
	if j.shape.Op == backends.OpRecode {
		rows /= cols
	}
	w := &quant.Tensor{Rows: rows, Cols: cols, Levels: j.opts.Levels, Format: quant.Int8, Codes: make([]int8, rows*cols), Scales: []float32{1}}
	r := rand.New(rand.NewPCG(3, 4))
	if w.Levels == quant.Sparse {
		for row := range rows {
			quant.SparseCodes(w.Codes[row*cols:][:cols], d.x[row%1024:][:cols])
		}
	} else {
		for i := range w.Codes {
			w.Codes[i] = int8(r.Uint32()%3) - 1
		}
	}
	x := &quant.Activations{Rows: int(j.shape.M), Cols: cols, Codes: make([]int8, int(j.shape.M)*cols), Scales: make([]float32, j.shape.M)}
	for i := range x.Codes {
		x.Codes[i] = int8(r.Uint32()%255) - 127
	}
	packed, err := w.Convert(nil, j.opts.Format)
	d.weights, d.rows, d.made = packed, x, j.shape
	return packed, x, err
}

// sample times a call: repeated until a sample lasts long enough for the clock. It returns nanoseconds a part.
func sample(f func() (int, error), repeats int) (float64, error) {
	parts := 0
	begin := time.Now()
	for range repeats {
		p, err := f()
		if err != nil {
			return 0, err
		}
		parts += p
	}
	return float64(time.Since(begin)) / float64(parts), nil
}

// effort says how long to measure.
type effort struct {
	samples int           // of each call
	least   time.Duration // that a sample lasts
	longest time.Duration // a call predicted or seen to take longer is left out

	patience time.Duration // after which a grid is not measured again where the core was another's too
}

var (
	quickEffort = effort{samples: 2, least: 60 * time.Microsecond, longest: 40 * time.Millisecond, patience: 16 * time.Second} // of a pass
	fullEffort  = effort{samples: 4, least: 300 * time.Microsecond, longest: 300 * time.Millisecond, patience: 150 * time.Second}
	checkEffort = effort{samples: 1, least: 60 * time.Microsecond, longest: 60 * time.Millisecond, patience: 20 * time.Second} // of a pass of regret's
)

// samples are the nanoseconds that a job took on each of several runtimes, in turns.
type samples struct {
	all   [][]float64 // by runtime; nil: too slow to be measured
	quiet [][]float64 // of the turns in which the cores were not another's too
	calm  float64     // quiet turns, a pass counting as one
	turns float64     // passes
}

func (s *samples) add(t samples) {
	if s.all == nil {
		*s = t
		return
	}
	for i := range s.all {
		s.all[i] = append(s.all[i], t.all[i]...)
		s.quiet[i] = append(s.quiet[i], t.quiet[i]...)
	}
	s.calm += t.calm
	s.turns += t.turns
}

// counted are the samples of a runtime that count: those of quiet turns, unless there are fewer than two.
func (s *samples) counted(i int) []float64 {
	if len(s.quiet[i]) > 1 {
		return s.quiet[i]
	}
	return s.all[i]
}

// never is what a call takes on a runtime whose kernel refuses it.
var never = math.Inf(1)

// race measures a job on several runtimes (nil ones are left out) in turn, so that they share what else goes on on the machine.
func (e effort) race(ctx context.Context, d *data, j job, rts []*runtime.Runtime, predicted []float64) (s samples, err error) {
	results := make([][]float64, len(rts))
	s = samples{all: results, quiet: make([][]float64, len(rts)), turns: 1}
	calls := make([]func() (int, error), len(rts))
	repeats := make([]int, len(rts))
	parts := 1.0
	if j.shape.Op == backends.OpKMeans {
		parts = iterations
	}
	for i, rt := range rts {
		if rt == nil || parts*predicted[i] > 3*float64(e.longest) {
			continue
		}
		f := d.call(rt, j)
		t, err := sample(f, 1) // the first call is not counted: buffers, pages, caches
		if err == nil && t*parts < long {
			t, err = sample(f, 1)
		}
		if errors.Is(err, backends.ErrUnsupported) {
			results[i] = []float64{never}
			continue
		}
		if err != nil {
			return samples{}, err
		}
		if t*parts > float64(e.longest) {
			results[i] = []float64{t}
			continue
		}
		calls[i], repeats[i] = f, max(1, int(float64(e.least)/(t*parts)))
		if t*parts >= long {
			repeats[i] = 0
		}
	}
	before := d.pulse.quiet()
	for turn := range e.samples {
		took := make([]float64, len(calls))
		for i, f := range calls {
			if f == nil || repeats[i] == 0 && turn%2 == 1 {
				continue
			}
			if err := ctx.Err(); err != nil {
				return samples{}, err
			}
			for begin := time.Now(); repeats[i] > 0 && time.Since(begin) < awake; {
				if _, err := f(); err != nil {
					return samples{}, err
				}
			}
			t, err := sample(f, max(1, repeats[i]))
			if err != nil {
				return samples{}, err
			}
			took[i] = t
			results[i] = append(results[i], t)
		}
		after := d.pulse.quiet()
		if before && after {
			s.calm += 1 / float64(e.samples)
			for i, t := range took {
				if t > 0 {
					s.quiet[i] = append(s.quiet[i], t)
				}
			}
		}
		before = after
	}
	return s, nil
}

// allocated returns the bytes that a call allocates once its destination is there.
func allocated(f func() (int, error)) int64 {
	var before, after gort.MemStats
	if _, err := f(); err != nil {
		return -1
	}
	gort.ReadMemStats(&before)
	if _, err := f(); err != nil {
		return -1
	}
	gort.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// field opens a runtime for each arm of each op, which can run nothing else.
type field struct {
	all    *runtime.Runtime
	forced map[string]*runtime.Runtime // by arm
}

func openField(options ...runtime.Option) (*field, error) {
	// A forced kernel from the environment would leave nothing to compare.
	options = append(options, runtime.WithFastNumerics())
	all, err := runtime.Open(append(options, runtime.WithForce(""))...)
	if err != nil {
		return nil, err
	}
	f := &field{all: all, forced: map[string]*runtime.Runtime{}}
	for _, op := range backends.Ops() {
		for _, a := range all.Arms(op) {
			if f.forced[a.String()] == nil {
				rt, err := runtime.Open(append(options, runtime.WithForce(a.String()), runtime.WithProfile(""))...)
				if err != nil {
					f.close()
					return nil, err
				}
				f.forced[a.String()] = rt
			}
		}
	}
	return f, nil
}

func (f *field) close() {
	f.all.Close()
	for _, rt := range f.forced {
		rt.Close()
	}
}

// runtimes returns the forced runtimes of an op's arms, in the router's order, with what is predicted for a shape.
func (f *field) runtimes(s dispatch.Shape) (rts []*runtime.Runtime, predicted []float64) {
	for _, a := range f.all.Arms(s.Op) {
		rts = append(rts, f.forced[a.String()])
	}
	for _, c := range f.all.Explain(s).Arms {
		predicted = append(predicted, c.PredictedNs)
	}
	return rts, predicted
}
