// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"sync"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
)

// Argument structs travel by pointer through function values, so they would be allocated for each call; pools keep them.
var (
	quantizeArgs  = sync.Pool{New: func() any { return new(backends.Quantize) }}
	constrainArgs = sync.Pool{New: func() any { return new(backends.Constrain) }}
	reduceArgs    = sync.Pool{New: func() any { return new(backends.Reduce) }}
)

func doQuantize(m *arm, a *backends.Quantize) error   { return m.backend.Quantize(m.kernel, a) }
func doConstrain(m *arm, a *backends.Constrain) error { return m.backend.Constrain(m.kernel, a) }

// wasInside tells the variant of constrain that a call was.
func wasInside(a *backends.Constrain, v dispatch.Variant) (int, dispatch.Variant) {
	if a.Norm <= a.Radius && &a.X[0] == &a.Dst[0] {
		return 1, v | dispatch.Inside
	}
	return 1, v &^ dispatch.Inside
}

func doReduce(m *arm, a *backends.Reduce) error { return m.backend.Reduce(m.kernel, a) }

// Quantize turns x into ternary or quinary codes and scales. dst is used again when it is large enough, or allocated when nil; it is returned.
//
// The zero Options are ternary codes by the absmean rule, one scale for all of x, one int8 a code. Errors: ErrArgument or ErrShape for
// options that do not fit x (dst is untouched), ErrNonFinite when x holds a NaN or an infinity, naming its index (dst is unspecified).
// Deterministic: the same bits on every kernel.
func (rt *Runtime) Quantize(dst *quant.Tensor, x []float32, opts quant.Options) (*quant.Tensor, error) {
	return rt.QuantizeContext(context.Background(), dst, x, opts)
}

// QuantizeContext is Quantize that stops with ctx's error when ctx ends; dst is unspecified then. It looks about once a million values.
func (rt *Runtime) QuantizeContext(ctx context.Context, dst *quant.Tensor, x []float32, opts quant.Options) (*quant.Tensor, error) {
	return rt.quantize(given(ctx), 0, dst, slice(x), opts)
}

// quantize is QuantizeContext without the arms of a bit mask.
func (rt *Runtime) quantize(ctx context.Context, without uint64, dst *quant.Tensor, v vector, opts quant.Options) (*quant.Tensor, error) {
	x := v.values
	o, err := backends.CheckQuantize(x, opts)
	if err == nil {
		err = ctx.Err() // an ended context stops the shortest call too
	}
	if err != nil {
		return dst, err
	}
	if dst == nil {
		dst = new(quant.Tensor)
	}
	dst.Resize(len(x)/o.Cols, o)
	flag, stop := watch(ctx)
	a := quantizeArgs.Get().(*backends.Quantize)
	*a = backends.Quantize{X: x, Rule: o.Rule, Seed: o.Seed, Dst: dst, Cancel: flag}
	s := dispatch.Quantize(len(x), o)
	p := rt.placing().with(v, &a.XAt, true, false).output(codeBytes(dst))
	err = runPlaced(ctx, rt, without|rt.only(o, backends.OpQuantize), p, &s, a, doQuantize, once)
	stop()
	put(&quantizeArgs, a, err)
	return dst, finished(ctx, err)
}

// codeBytes is what a tensor's codes and scales take.
func codeBytes(t *quant.Tensor) float64 {
	return float64(len(t.Codes) + len(t.Packed) + 4*len(t.Scales))
}

// only is a bit mask of the arms that do not make codes of such levels.
func (rt *Runtime) only(o quant.Options, op backends.Op) uint64 {
	if o.Levels == quant.Sparse {
		return rt.foreign[op]
	}
	return 0
}

// Constrain projects the step x on the ball of the given radius: out = x when ‖x‖₂ ≤ radius, else x·radius/‖x‖₂, rounded
// so that ‖out‖₂ ≤ radius truly holds. It returns out and ‖x‖₂.
//
// dst is allocated when nil. dst = x works in place: inside the ball nothing is written. Errors: ErrArgument for a radius that is negative or NaN,
// ErrShape for lengths that differ, ErrAlias for a dst that overlaps x otherwise, ErrNonFinite naming the index; x is untouched by all of these.
// Deterministic: the same bits on every kernel.
func (rt *Runtime) Constrain(dst, x []float32, radius float64) (out []float32, norm float64, err error) {
	return rt.ConstrainContext(context.Background(), dst, x, radius)
}

// ConstrainContext is Constrain that stops with ctx's error when ctx ends while the norm is summed; nothing has been written then.
func (rt *Runtime) ConstrainContext(ctx context.Context, dst, x []float32, radius float64) (out []float32, norm float64, err error) {
	if dst == nil {
		dst = make([]float32, len(x))
	}
	return rt.constrain(given(ctx), 0, slice(dst), slice(x), radius)
}

// constrain is ConstrainContext without the arms of a bit mask.
func (rt *Runtime) constrain(ctx context.Context, without uint64, to, from vector, radius float64) (out []float32, norm float64, err error) {
	dst, x := to.values, from.values
	a := constrainArgs.Get().(*backends.Constrain)
	*a = backends.Constrain{X: x, Dst: dst, Radius: radius}
	if err = a.Check(); err == nil {
		err = ctx.Err() // an ended context stops the shortest call too
	}
	if err == nil {
		flag, stop := watch(ctx)
		a.Cancel = flag
		s := dispatch.Vector(backends.OpConstrain, len(x))
		if &x[0] == &dst[0] && rt.inside.Load() { // nobody knows before; what was the last time is likely
			s.Variant = dispatch.Inside
		}
		p := rt.placing().with(from, &a.XAt, true, false).with(to, &a.DstAt, false, true)
		err = finished(ctx, runPlaced(ctx, rt, without, p, &s, a, doConstrain, wasInside))
		if !errors.Is(err, ErrBlocked) {
			norm = a.Norm
		}
		if err == nil && norm <= radius != rt.inside.Load() {
			rt.inside.Store(norm <= radius)
		}
		stop()
	}
	put(&constrainArgs, a, err)
	return dst, norm, err
}

// Dot returns Σ x·y, with float64 products and sums in the one order of docs/numerics.md. Errors: ErrArgument, ErrShape, ErrNonFinite naming the index.
// It differs in rounding from a 1×n×1 matrix product, which is a float32 chain.
func (rt *Runtime) Dot(x, y []float32) (float64, error) {
	return rt.reduce(backends.OpDot, slice(x), slice(y))
}

// Norm2 returns ‖x‖₂, without overflow or underflow for any finite x. Errors: ErrArgument, ErrNonFinite naming the index.
func (rt *Runtime) Norm2(x []float32) (float64, error) {
	return rt.reduce(backends.OpNorm2, slice(x), vector{})
}

func (rt *Runtime) reduce(op backends.Op, x, y vector) (float64, error) {
	a := reduceArgs.Get().(*backends.Reduce)
	*a = backends.Reduce{X: x.values, Y: y.values}
	err := a.Check(op)
	if err == nil {
		s := dispatch.Vector(op, len(a.X))
		err = runPlaced(context.Background(), rt, 0, rt.placing().with(x, &a.XAt, true, false).with(y, &a.YAt, true, false), &s, a, doReduce, once)
	}
	r := a.Result
	put(&reduceArgs, a, err)
	if err != nil {
		return 0, err
	}
	return r, nil
}
