// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"math"
	"sync"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// MatMulOptions says how the matrices of MatMul lie in memory. The zero value is one product of matrices without gaps.
type MatMulOptions struct {
	TransA, TransB bool // A is stored as k rows of m values; B as n rows of k
	Accumulate     bool // dst += A·B

	LDA, LDB, LDC int // values from a stored row to the next; 0: as many as a row has

	Batch                     int  // products; 0: one
	StrideA, StrideB, StrideC int  // values from one product's matrix to the next one's; 0: one matrix follows the other
	SharedA, SharedB          bool // all products of the batch have the same A or B

	// Fast lets kernels run the call whose sums have an order of their own, if the runtime has any (WithFastNumerics). Results then differ in rounding from
	// machine to machine, and from call to call of different sizes.
	Fast bool
}

var matmulArgs = sync.Pool{New: func() any { return new(backends.MatMul) }}

func doMatMul(m *arm, a *backends.MatMul) error { return m.backend.MatMul(m.kernel, a) }

// MatMul returns dst = A·B, where A is m rows of k values, B k rows of n and dst m rows of n, all row by row. dst is allocated when nil, and returned.
//
// Unless o.Fast says otherwise every element is one chain of fused float32 multiply-adds over rising k (docs/numerics.md), so results are the same bits on every kernel, for every
// number of threads. Values are not checked: what is not finite propagates, as IEEE 754 has it. Errors: ErrArgument for sizes, row lengths and strides out of range, ErrShape for slices that
// are too short, ErrAlias for a dst that overlaps a or b; dst is untouched by all of these.
func (rt *Runtime) MatMul(dst, a, b []float32, m, n, k int, o MatMulOptions) ([]float32, error) {
	return rt.MatMulContext(context.Background(), dst, a, b, m, n, k, o)
}

// MatMulContext is MatMul that stops with ctx's error when ctx ends; dst is unspecified then. It looks several times a second.
func (rt *Runtime) MatMulContext(ctx context.Context, dst, a, b []float32, m, n, k int, o MatMulOptions) ([]float32, error) {
	return rt.matmul(given(ctx), slice(dst), slice(a), slice(b), m, n, k, o)
}

func (rt *Runtime) matmul(ctx context.Context, c, a, b vector, m, n, k int, o MatMulOptions) ([]float32, error) {
	dst := c.values
	x := matmulArgs.Get().(*backends.MatMul)
	o.fill(x, m, n, k)
	x.A, x.B, x.C = a.values, b.values, dst
	err := x.Check()
	if err == nil {
		err = ctx.Err() // an ended context stops the shortest call too
	}
	if err == nil {
		if dst == nil {
			dst = make([]float32, x.SizeC())
			x.C = dst
		}
		flag, stop := watch(ctx)
		x.Cancel = flag
		s := dispatch.MatMul(m, n, k, x.Batch)
		s.Fast = o.Fast
		whole := len(dst) == m*n*x.Batch // else some values of dst stay
		p := rt.placing().with(a, &x.AAt, true, false).with(b, &x.BAt, true, false).with(c, &x.CAt, o.Accumulate || !whole, true)
		err = finished(ctx, runPlaced(ctx, rt, 0, p, &s, x, doMatMul, once))
		stop()
	}
	put(&matmulArgs, x, err)
	return dst, err
}

// fill sets sizes and layout, with the defaults for what is 0.
func (o *MatMulOptions) fill(x *backends.MatMul, m, n, k int) {
	or := func(v, otherwise int) int {
		if v == 0 {
			return otherwise
		}
		return v
	}
	rowsA, colsA, rowsB, colsB := m, k, k, n
	if o.TransA {
		rowsA, colsA = k, m
	}
	if o.TransB {
		rowsB, colsB = n, k
	}
	*x = backends.MatMul{M: m, N: n, K: k, TransA: o.TransA, TransB: o.TransB, Accumulate: o.Accumulate, Batch: or(o.Batch, 1),
		LDA: or(o.LDA, colsA), LDB: or(o.LDB, colsB), LDC: or(o.LDC, n)}
	if x.Batch == 1 {
		return // there is no next one
	}
	x.StrideC = or(o.StrideC, values(m, x.LDC))
	if !o.SharedA {
		x.StrideA = or(o.StrideA, values(rowsA, x.LDA))
	}
	if !o.SharedB {
		x.StrideB = or(o.StrideB, values(rowsB, x.LDB))
	}
}

// values is rows*ld, or what Check refuses when that is too large.
func values(rows, ld int) int {
	if ld > 0 && rows > math.MaxInt/ld {
		return math.MaxInt
	}
	return rows * ld
}
