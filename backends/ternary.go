// SPDX-License-Identifier: Apache-2.0

package backends

import (
	"fmt"
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/setun-compute/setun/quant"
)

// Activations is the argument of the op activations: Dst has been resized for X.
type Activations struct {
	X      []float32 // Dst.Rows*Dst.Cols values, row-major
	XAt    Address   // where on the device; 0: in the slice
	Dst    *quant.Activations
	Cancel *atomic.Int32
}

// CheckActivations validates the arguments of a call without touching a destination, and returns the number of rows.
func CheckActivations(x []float32, cols int) (rows int, err error) {
	switch {
	case len(x) == 0:
		return 0, Fail(ErrArgument, OpActivations, "0", "x is empty")
	case cols < 1 || cols > len(x):
		return 0, Fail(ErrShape, OpActivations, fmt.Sprint(len(x)), "rows of %d values, but x has %d", cols, len(x))
	case len(x)%cols != 0:
		return 0, Fail(ErrShape, OpActivations, fmt.Sprint(len(x)), "len(x) = %d is not a multiple of the row length %d", len(x), cols)
	}
	return len(x) / cols, nil
}

// Recode is the argument of the op recode: To has the shape, the levels and the scales of From, and room for its codes in another format: Int8, Bits2 or Base3.
type Recode struct {
	From, To *quant.Tensor
	Cancel   *atomic.Int32
}

// Ternary is the argument of the op ternary-matmul: Out[b·W.Rows + r] = Σ W[r]·X[b], the product of X and the transpose of W.
type Ternary struct {
	W      *quant.Tensor
	X      *quant.Activations
	Out    []float32 // X.Rows*W.Rows
	OutAt  Address   // where on the device; 0: in the slice
	Cancel *atomic.Int32
}

// Shape formats the sizes as errors show them: rows and columns of W, and rows of X.
func (a *Ternary) Shape() string {
	return fmt.Sprintf("%dx%dx%d %v", a.W.Rows, a.W.Cols, a.X.Rows, a.W.Format)
}

// Check validates sizes, lengths and overlap. W must have passed CheckShape. An Out that is nil passes: it is to be allocated.
func (a *Ternary) Check() error {
	if a.W == nil || a.X == nil {
		return Fail(ErrArgument, OpTernary, "", "weights or activations are nil")
	}
	fail := func(sentinel error, detail string, args ...any) error {
		return Fail(sentinel, OpTernary, a.Shape(), detail, args...)
	}
	switch {
	case a.X.Rows < 1 || a.X.Cols < 1 || int64(a.X.Rows) > min(maxValues, math.MaxInt)/int64(a.X.Cols) || len(a.X.Codes) != a.X.Rows*a.X.Cols || len(a.X.Scales) != a.X.Rows:
		return fail(ErrShape, "activations of %dx%d have %d codes and %d scales", a.X.Rows, a.X.Cols, len(a.X.Codes), len(a.X.Scales))
	case a.X.Cols != a.W.Cols:
		return fail(ErrShape, "activations have rows of %d values, weights of %d", a.X.Cols, a.W.Cols)
	case int64(a.X.Rows) > min(maxValues, math.MaxInt)/int64(a.W.Rows):
		return fail(ErrShape, "the result would have %d rows of %d values", a.X.Rows, a.W.Rows)
	case a.Out != nil && len(a.Out) != a.X.Rows*a.W.Rows:
		return fail(ErrShape, "dst has %d values, %d are needed", len(a.Out), a.X.Rows*a.W.Rows)
	}
	out := bytesOf(unsafe.SliceData(a.Out), 4*len(a.Out))
	for _, in := range []struct {
		name string
		at   span
	}{
		{"the codes", bytesOf(unsafe.SliceData(a.W.Codes), len(a.W.Codes))}, {"the packed codes", bytesOf(unsafe.SliceData(a.W.Packed), len(a.W.Packed))}, {"the signs", bytesOf(unsafe.SliceData(a.W.Signs), len(a.W.Signs))},
		{"the scales", bytesOf(unsafe.SliceData(a.W.Scales), 4*len(a.W.Scales))}, {"the activations", bytesOf(unsafe.SliceData(a.X.Codes), len(a.X.Codes))}, {"the activations' scales", bytesOf(unsafe.SliceData(a.X.Scales), 4*len(a.X.Scales))},
	} {
		if out.from < in.at.to && in.at.from < out.to {
			return fail(ErrAlias, "dst overlaps %s", in.name)
		}
	}
	return nil
}

// Overlap says whether two slices have memory in common.
func Overlap[A, B any](a []A, b []B) bool {
	var x A
	var y B
	p, q := bytesOf(unsafe.SliceData(a), len(a)*int(unsafe.Sizeof(x))), bytesOf(unsafe.SliceData(b), len(b)*int(unsafe.Sizeof(y)))
	return p.from < q.to && q.from < p.to
}

// span is a range of addresses; empty ones overlap nothing.
type span struct{ from, to uintptr }

func bytesOf[E any](p *E, n int) span {
	if n == 0 {
		return span{math.MaxUint, 0}
	}
	at := uintptr(unsafe.Pointer(p))
	return span{at, at + uintptr(n)}
}
