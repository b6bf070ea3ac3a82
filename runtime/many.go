// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

// KMeansMany clusters many problems in one call: problems[i] holds points of dim values, and all have the same options. Small problems do not pay for threads
// of their own; here each has one thread, and as many run at once as Go may use processors; one with more points than one of those could do while the others do the rest has all threads, before them. Or a device does each step of all of them at once, where that is expected to be faster. dst[i], allocated
// when nil, is the result of problems[i], the bits that KMeans would return for it; dst itself is allocated when nil, or must be as long as problems.
//
// Centroids, when given, start every problem; Weights must be nil, and Progress is not called. When a problem fails the others stop; the error names it, and results are
// unspecified then. Errors otherwise as for KMeans.
func (rt *Runtime) KMeansMany(ctx context.Context, dst []*Clustering, problems [][]float32, dim int, o KMeansOptions) ([]*Clustering, error) {
	shape := fmt.Sprintf("%d problems", len(problems))
	switch {
	case o.Weights != nil:
		return dst, backends.Fail(ErrArgument, backends.OpKMeans, shape, "weights are those of one problem")
	case dst != nil && len(dst) != len(problems):
		return dst, backends.Fail(ErrShape, backends.OpKMeans, shape, "dst has %d results", len(dst))
	}
	if dst == nil {
		dst = make([]*Clustering, len(problems))
	}
	if twice(dst) {
		return dst, backends.Fail(ErrAlias, backends.OpKMeans, shape, "a result is in dst twice")
	}
	o.Progress = nil
	if done, err := rt.gathered(given(ctx), dst, problems, dim, o); done || err != nil {
		return dst, err
	}
	err := rt.list(given(ctx), backends.OpKMeans, "problem", problems, shareOf(problems, o.K), func(ctx context.Context, without uint64, i int) (err error) {
		if err = rt.home(ctx, problems[i]); err == nil { // several may lie in one mapped slice, whose calls wait for each other
			dst[i], err = rt.kmeans(ctx, without, false, dst[i], slice(problems[i]), dim, o)
		}
		return err
	})
	return dst, err
}

// shareOf is how many values each processor has of problems that are shared evenly, but at least those of worthThreads.
func shareOf(problems [][]float32, k int) int {
	values := 0
	for _, x := range problems {
		values += len(x)
	}
	return max(values/runtime.GOMAXPROCS(0), worthThreads/max(1, k))
}

// worthThreads is how many multiply-adds an iteration has, a tenth of a millisecond, for which threads pay.
const worthThreads = 1 << 22

// QuantizeMany quantizes a list of tensors in one call, all with the same options: dst[i], allocated when nil, is what Quantize would make of tensors[i], bit for bit; dst itself is
// allocated when nil, or must be as long as tensors. Tensors of up to a million values have a thread each, as many at once as Go may use processors, larger ones
// all threads one after the other.
//
// When a tensor fails the others stop; the error names it, and results are unspecified then. Errors otherwise as for Quantize.
func (rt *Runtime) QuantizeMany(ctx context.Context, dst []*quant.Tensor, tensors [][]float32, opts quant.Options) ([]*quant.Tensor, error) {
	if dst != nil && len(dst) != len(tensors) {
		return dst, backends.Fail(ErrShape, backends.OpQuantize, fmt.Sprintf("%d tensors", len(tensors)), "dst has %d results", len(dst))
	}
	if dst == nil {
		dst = make([]*quant.Tensor, len(tensors))
	}
	if twice(dst) {
		return dst, backends.Fail(ErrAlias, backends.OpQuantize, fmt.Sprintf("%d tensors", len(tensors)), "a result is in dst twice")
	}
	ctx = given(ctx)
	err := rt.list(ctx, backends.OpQuantize, "tensor", tensors, whole, func(_ context.Context, without uint64, i int) (err error) {
		dst[i], err = rt.quantize(ctx, without, dst[i], slice(tensors[i]), opts)
		return err
	})
	return dst, err
}

// ConstrainMany projects each step of a list on the ball of its own radius in one call: dst[i] and norms[i] are what Constrain would return for steps[i] and radii[i], bit for bit.
// dst is allocated when nil, or must be as long as steps, as radii must; its slices are allocated when nil and may be the steps themselves. Steps share the threads as
// tensors do in QuantizeMany.
//
// A list that does not fit, a radius that is negative or NaN, or a dst that overlaps another step is refused before anything is written. When a step turns out to hold a NaN or an
// infinity, or ctx ends, the others stop: each has been constrained completely or not at all, and norms[i] is NaN where it has not. Errors name the step; otherwise as for Constrain.
func (rt *Runtime) ConstrainMany(ctx context.Context, dst, steps [][]float32, radii []float64) (out [][]float32, norms []float64, err error) {
	shape := fmt.Sprintf("%d steps", len(steps))
	switch {
	case dst != nil && len(dst) != len(steps):
		return dst, nil, backends.Fail(ErrShape, backends.OpConstrain, shape, "dst has %d results", len(dst))
	case len(radii) != len(steps):
		return dst, nil, backends.Fail(ErrShape, backends.OpConstrain, shape, "%d radii", len(radii))
	}
	if dst == nil {
		dst = make([][]float32, len(steps))
	}
	norms = make([]float64, len(steps))
	for i, x := range steps {
		if dst[i] == nil {
			dst[i] = make([]float32, len(x))
		}
		if err := (&backends.Constrain{X: x, Dst: dst[i], Radius: radii[i]}).Check(); err != nil {
			return dst, nil, fmt.Errorf("tensor %d: %w", i, err)
		}
		norms[i] = math.NaN()
	}
	if overlap(dst, steps) {
		return dst, nil, backends.Fail(ErrAlias, backends.OpConstrain, shape, "a dst overlaps another one or another's step")
	}
	err = rt.list(given(ctx), backends.OpConstrain, "tensor", steps, whole, func(ctx context.Context, without uint64, i int) error {
		_, norm, err := rt.constrain(ctx, without, slice(dst[i]), slice(steps[i]), radii[i])
		if err == nil {
			norms[i] = norm
		}
		return err
	})
	return dst, norms, err
}

// twice says whether a pointer other than nil is in the list more than once.
func twice[T any](list []*T) bool {
	seen := make(map[*T]bool, len(list))
	for _, p := range list {
		if p != nil && seen[p] {
			return true
		}
		seen[p] = true
	}
	return false
}

// overlap says whether a dst shares memory with another dst or with another's step.
func overlap(dst, steps [][]float32) bool {
	type span struct {
		from, to uintptr
		written  bool
	}
	var spans []span
	add := func(x []float32, written bool) {
		if len(x) > 0 {
			from := uintptr(unsafe.Pointer(unsafe.SliceData(x)))
			spans = append(spans, span{from, from + 4*uintptr(len(x)), written})
		}
	}
	for i, x := range steps {
		if add(dst[i], true); unsafe.SliceData(x) != unsafe.SliceData(dst[i]) { // in place they are one
			add(x, false)
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var read, written uintptr // the ends of those before
	for _, s := range spans {
		switch {
		case s.from < written || s.written && s.from < read:
			return true
		case s.written:
			written = s.to
		default:
			read = max(read, s.to)
		}
	}
	return false
}

// whole is the length from which a tensor of a list has all threads to itself.
const whole = 1 << 20

// list does work for every tensor of a list: for those with more than so many values one after the other, for the rest side by side without the arms that have threads of their own.
func (rt *Runtime) list(ctx context.Context, op backends.Op, what string, tensors [][]float32, most int, work func(ctx context.Context, without uint64, i int) error) error {
	named := func(ctx context.Context, without uint64, i int) error {
		if err := work(ctx, without, i); err != nil {
			return fmt.Errorf("%s %d: %w", what, i, err)
		}
		return nil
	}
	small := make([]int, 0, len(tensors))
	for i, x := range tensors {
		if len(x) <= most {
			small = append(small, i)
		} else if err := named(ctx, 0, i); err != nil {
			return err
		}
	}
	return shared(ctx, len(small), func(ctx context.Context, i int) error { return named(ctx, rt.threaded[op], small[i]) })
}

// shared does work for 0 to n−1 on as many goroutines as Go may use processors. When one fails the others stop; the error is that of the first that failed by itself, with that of one that does not return.
func shared(outer context.Context, n int, work func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancel(outer)
	defer cancel()
	errs := make([]error, n)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if errs[i] = work(ctx, i); errs[i] != nil {
					cancel()
					return
				}
			}
		})
	}
	workers.Wait()
	var first, blocked error
	for _, err := range errs {
		if err != nil && (first == nil || errors.Is(first, context.Canceled)) { // one that was only told to stop is not the cause
			first = err
		}
		if errors.Is(err, ErrBlocked) {
			blocked = err
		}
	}
	switch {
	case first == nil:
		return outer.Err()
	case blocked != nil && !errors.Is(first, ErrBlocked): // whatever came first: something is still in use
		return errors.Join(first, blocked)
	}
	return first
}
