// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"fmt"
	"sync"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
)

var (
	activationsArgs = sync.Pool{New: func() any { return new(backends.Activations) }}
	recodeArgs      = sync.Pool{New: func() any { return new(backends.Recode) }}
	ternaryArgs     = sync.Pool{New: func() any { return new(backends.Ternary) }}
)

func doActivations(m *arm, a *backends.Activations) error { return m.backend.Activations(m.kernel, a) }
func doRecode(m *arm, a *backends.Recode) error           { return m.backend.Recode(m.kernel, a) }
func doTernary(m *arm, a *backends.Ternary) error         { return m.backend.Ternary(m.kernel, a) }

// QuantizeActivations turns x, rows of cols values, into int8 codes with a scale a row, absmax/127: BitNet b1.58's activations (arXiv 2402.17764), for TernaryMatMul. A code is x·127/absmax to the nearest, ties
// to even; a row of zeros has scale 0. dst is used again where it is large enough, allocated when nil, and returned.
//
// Errors: ErrArgument or ErrShape for cols that do not divide x (dst is untouched), ErrAlias for a dst that overlaps x, ErrNonFinite naming the index (dst is unspecified). Deterministic: the same bits on every kernel.
func (rt *Runtime) QuantizeActivations(dst *quant.Activations, x []float32, cols int) (*quant.Activations, error) {
	rows, err := backends.CheckActivations(x, cols)
	if err != nil {
		return dst, err
	}
	if dst == nil {
		dst = new(quant.Activations)
	}
	dst.Resize(rows, cols)
	if backends.Overlap(x, dst.Scales) || backends.Overlap(x, dst.Codes) {
		return dst, backends.Fail(ErrAlias, backends.OpActivations, fmt.Sprint(len(x)), "dst overlaps x")
	}
	a := activationsArgs.Get().(*backends.Activations)
	*a = backends.Activations{X: x, Dst: dst}
	s := dispatch.Activations(len(x), rows)
	p := rt.placing().with(slice(x), &a.XAt, true, false).output(float64(len(dst.Codes) + 4*len(dst.Scales)))
	err = runPlaced(context.Background(), rt, 0, p, &s, a, doActivations, once)
	put(&activationsArgs, a, err)
	return dst, err
}

// Convert makes dst the same tensor with its codes in another format, as quant.Tensor.Convert does, and returns it: to Int8, Bits2 and Base3 by the fastest kernel, to the others in pure Go. Errors wrap quant.ErrFormat.
func (rt *Runtime) Convert(dst, t *quant.Tensor, f quant.Format) (*quant.Tensor, error) {
	if f > quant.Base3 {
		return t.Convert(dst, f)
	}
	if err := t.Check(); err != nil {
		return dst, err
	}
	dst, err := t.Frame(dst, f)
	if err != nil {
		return dst, err
	}
	a := recodeArgs.Get().(*backends.Recode)
	*a = backends.Recode{From: t, To: dst}
	s := dispatch.Recode(t, f)
	err = run(rt, &s, a, doRecode, once)
	put(&recodeArgs, a, err)
	return dst, err
}

// TernaryMatMul multiplies activations by the transpose of a quantized matrix, without unpacking it: dst[b·w.Rows + r] = Σ w[r]·x[b], for each row b of x. One row of x makes it a matrix-vector product. dst is allocated
// when nil, and returned. w is of any levels and format, with a scale for the tensor, a row or a group.
//
// Sums within a group of scales are exact integers, those of groups float64 in rising order, rounded to float32 once (docs/numerics.md): the same bits on every kernel, for every format of the same codes and every
// number of threads. Errors: ErrShape for sizes that do not fit, quant.ErrFormat for a w whose fields contradict each other, ErrAlias for a dst that overlaps an operand. The first plane is not held against the index with
// every call: call w.Check once for a tensor that comes from elsewhere. Without that a wrong one gives wrong results, and no more.
func (rt *Runtime) TernaryMatMul(dst []float32, x *quant.Activations, w *quant.Tensor) ([]float32, error) {
	return rt.TernaryMatMulContext(context.Background(), dst, x, w)
}

// TernaryMatMulContext is TernaryMatMul that stops with ctx's error when ctx ends; dst is unspecified then. It looks several times a second.
func (rt *Runtime) TernaryMatMulContext(ctx context.Context, dst []float32, x *quant.Activations, w *quant.Tensor) ([]float32, error) {
	ctx = given(ctx)
	a := ternaryArgs.Get().(*backends.Ternary)
	*a = backends.Ternary{W: w, X: x, Out: dst}
	var err error
	if w != nil {
		err = w.CheckShape()
	}
	if err == nil {
		err = a.Check()
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		if dst == nil {
			dst = make([]float32, x.Rows*w.Rows)
			a.Out = dst
		}
		flag, stop := watch(ctx)
		a.Cancel = flag
		s := dispatch.Ternary(w, x.Rows)
		p := rt.placing().with(slice(dst), &a.OutAt, false, true).input(float64(len(x.Codes)+4*len(x.Scales)) + codeBytes(w))
		err = finished(ctx, runPlaced(ctx, rt, 0, p, &s, a, doTernary, once))
		stop()
	}
	put(&ternaryArgs, a, err)
	return dst, err
}
