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

var stepArgs = sync.Pool{New: func() any { return new(backends.Step) }}

func doStep(m *arm, a *backends.Step) error { return m.backend.Step(m.kernel, a) }

// Step does a training step on parameters: delta is constrained to the radius, added to params in place, and the new params are quantized into dst as opts say.
// It returns dst and ‖delta‖₂. The bits are those of Constrain, an addition in float32 and Quantize one after another; delta itself stays as it is.
// It moves about half the memory: delta is read for its norm and once more to be applied, and what Quantize needs first is taken from the new params
// while they are in the cache.
//
// dst is used again when it is large enough, or allocated when nil. Errors: ErrArgument, ErrShape or ErrAlias for arguments that do not fit (nothing is
// touched), ErrNonFinite. When that names delta, params are untouched; when it names params, which held a bad value or overflowed, delta has been applied to all of
// them. dst is unspecified after ErrNonFinite. Deterministic: the same bits on every kernel.
func (rt *Runtime) Step(dst *quant.Tensor, params, delta []float32, radius float64, opts quant.Options) (out *quant.Tensor, norm float64, err error) {
	return rt.StepContext(context.Background(), dst, params, delta, radius, opts)
}

// StepContext is Step that stops with ctx's error when ctx ends before the norm is known; params are untouched then. Once params change, the call completes.
func (rt *Runtime) StepContext(ctx context.Context, dst *quant.Tensor, params, delta []float32, radius float64, opts quant.Options) (out *quant.Tensor, norm float64, err error) {
	return rt.step(given(ctx), dst, slice(params), slice(delta), radius, opts)
}

func (rt *Runtime) step(ctx context.Context, dst *quant.Tensor, p, d vector, radius float64, opts quant.Options) (out *quant.Tensor, norm float64, err error) {
	params, delta := p.values, d.values
	a := stepArgs.Get().(*backends.Step)
	*a = backends.Step{Params: params, Delta: delta, Radius: radius}
	var o quant.Options
	if err = a.Check(); err == nil {
		o, err = backends.CheckQuantize(params, opts)
	}
	if err == nil {
		err = ctx.Err() // an ended context stops the shortest call too
	}
	if err == nil {
		if dst == nil {
			dst = new(quant.Tensor)
		}
		dst.Resize(len(params)/o.Cols, o)
		flag, stop := watch(ctx)
		a.Rule, a.Seed, a.Dst, a.Cancel = o.Rule, o.Seed, dst, flag
		s := dispatch.Step(len(params), o)
		on := rt.placing().with(p, &a.ParamsAt, true, true).with(d, &a.DeltaAt, true, false).output(codeBytes(dst))
		err = finished(ctx, runPlaced(ctx, rt, rt.only(o, backends.OpStep), on, &s, a, doStep, once))
		if !errors.Is(err, ErrBlocked) {
			norm = a.Norm
		}
		stop()
	}
	put(&stepArgs, a, err)
	return dst, norm, err
}
