// SPDX-License-Identifier: Apache-2.0

package backends

import (
	"fmt"
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/setun-compute/setun/quant"
)

// Quantize is the argument of the op quantize: Dst has been resized for X by quant.Tensor.Resize.
type Quantize struct {
	X      []float32 // Rows*Cols values, row-major
	XAt    Address
	Rule   quant.Rule
	Seed   uint64 // of quant.Stochastic
	Dst    *quant.Tensor
	Cancel *atomic.Int32 // non-zero asks the kernel to stop; may be nil
}

// CheckQuantize validates the arguments of a quantize call without touching a destination. It returns the options with their defaults.
func CheckQuantize(x []float32, o quant.Options) (quant.Options, error) {
	fail := func(sentinel error, detail string, args ...any) error {
		return Fail(sentinel, OpQuantize, fmt.Sprint(len(x)), detail, args...)
	}
	if len(x) == 0 {
		return o, fail(ErrArgument, "x is empty")
	}
	d := o.WithDefaults(len(x))
	switch {
	case d.Cols < 0 || d.Cols > len(x):
		return d, fail(ErrShape, "rows of %d values, but x has %d", d.Cols, len(x))
	case len(x)%d.Cols != 0:
		return d, fail(ErrShape, "len(x) = %d is not a multiple of the row length %d", len(x), d.Cols)
	case d.Group < 0 || d.Group > d.Cols:
		return d, fail(ErrArgument, "group = %d is not within 1..%d", d.Group, d.Cols)
	case d.Levels != quant.Ternary && d.Levels != quant.Quinary && d.Levels != quant.Sparse:
		return d, fail(ErrArgument, "levels = %d is none of Ternary, Quinary, Sparse", d.Levels)
	case d.Levels == quant.Sparse && d.Rule != quant.LeastSquares && d.Rule != quant.Magnitude:
		return d, fail(ErrArgument, "rule %v does not find the scale of Sparse codes: LeastSquares and Magnitude do", d.Rule)
	case d.Rule > quant.Stochastic:
		return d, fail(ErrArgument, "rule = %d is not known", d.Rule)
	case d.Format > quant.Planes:
		return d, fail(ErrArgument, "format = %d is not known", d.Format)
	case d.Format == quant.Planes:
		return d, fail(ErrArgument, "planes are made by Tensor.Convert, from codes of another format")
	case d.Format == quant.Four5 && d.Levels != quant.Sparse:
		return d, fail(ErrArgument, "format %v holds Sparse codes only", d.Format)
	case d.Levels == quant.Quinary && d.Format != quant.Int8:
		return d, fail(ErrArgument, "format %v holds ternary codes only", d.Format)
	}
	return d, nil
}

// Constrain is the argument of the op constrain.
type Constrain struct {
	X, Dst []float32 // equal lengths; the same memory, or memory that does not overlap
	XAt    Address
	DstAt  Address
	Radius float64
	Norm   float64 // out: ‖X‖₂
	Cancel *atomic.Int32
}

// Check validates the argument.
func (a *Constrain) Check() error {
	switch {
	case len(a.X) == 0:
		return Fail(ErrArgument, OpConstrain, "0", "x is empty")
	case len(a.Dst) != len(a.X):
		return Fail(ErrShape, OpConstrain, fmt.Sprint(len(a.X)), "dst has %d values, x has %d", len(a.Dst), len(a.X))
	case !(a.Radius >= 0): // also NaN
		return Fail(ErrArgument, OpConstrain, fmt.Sprint(len(a.X)), "radius = %v is negative or not a number", a.Radius)
	case &a.X[0] != &a.Dst[0] && overlap(a.X, a.Dst):
		return Fail(ErrAlias, OpConstrain, fmt.Sprint(len(a.X)), "dst overlaps x but does not begin where x does")
	}
	return nil
}

func overlap(a, b []float32) bool {
	p, q := uintptr(unsafe.Pointer(&a[0])), uintptr(unsafe.Pointer(&b[0]))
	return p < q+uintptr(4*len(b)) && q < p+uintptr(4*len(a))
}

// Reduce is the argument of the ops dot and norm2.
type Reduce struct {
	X, Y   []float32 // equal lengths; Y is nil for norm2
	XAt    Address
	YAt    Address
	Result float64 // out
	Cancel *atomic.Int32
}

// Check validates the argument for op, OpDot or OpNorm2.
func (a *Reduce) Check(op Op) error {
	switch {
	case len(a.X) == 0:
		return Fail(ErrArgument, op, "0", "x is empty")
	case op == OpDot && len(a.Y) != len(a.X):
		return Fail(ErrShape, op, fmt.Sprint(len(a.X)), "y has %d values, x has %d", len(a.Y), len(a.X))
	}
	return nil
}

// KMeans is the argument of the op kmeans.
type KMeans struct {
	X       []float32 // N*D values, row-major
	XAt     Address
	N, D, K int
	Weights []float32 // N, finite and >= 0; nil: all 1

	WeightsAt Address   // where they are on the device, too: Weights holds them in any case
	Initial   []float32 // K*D given centroids; nil: k-means++
	Seed      uint64    // of k-means++ and mini-batches
	Cosine    bool      // rows and centroids count by their direction alone
	Batch     int       // rows of a mini-batch; 0: every iteration takes all rows
	MaxIter   int       // iterations, or mini-batches
	Tol       float64   // relative to the mean variance of a column; 0: stop only when no label changes

	Labels    []int32   // out, N
	Centroids []float32 // out, K*D
	Counts    []int64   // out, K: rows of each cluster

	Inertia    float64 // out: Σ w·‖x − c‖²
	Iterations int     // out
	Converged  bool    // out
	Streamed   bool    // out: the points were copied to a device for every pass
	Exact      float64 // out: the share of all scores that were computed in the canonical chain; the kernel knew the others not to be the greatest
	Progress   func(iteration int, changed int64)
}

// Shape formats the sizes as errors show them.
func (a *KMeans) Shape() string { return fmt.Sprintf("%dx%d k=%d", a.N, a.D, a.K) }

// KMeansMany is many fits that differ in nothing but their points, on which they have no weights: no mini-batches, no Progress, and all arrays are the host's.
type KMeansMany struct {
	Fits   []*KMeans // at least one
	Failed int       // out, with an error: whose it is; −1: none's in particular
}

// maxDrawn bounds the rows of all mini-batches together: integer sums over so many of them keep 26 bits of a value.
const maxDrawn int64 = 1 << 36

// Check validates the sizes, the options and the weights; the points themselves are checked while they are read.
func (a *KMeans) Check() error {
	fail := func(sentinel error, detail string, args ...any) error {
		return Fail(sentinel, OpKMeans, a.Shape(), detail, args...)
	}
	switch {
	case a.D < 1:
		return fail(ErrArgument, "dimension = %d is not positive", a.D)
	case a.N < 1 || len(a.X) == 0:
		return fail(ErrArgument, "there are no points")
	case a.N > math.MaxInt32 || a.N > len(a.X)/a.D || a.N*a.D != len(a.X):
		return fail(ErrShape, "x has %d values, not %d rows of %d", len(a.X), a.N, a.D)
	case a.K < 1:
		return fail(ErrArgument, "k = %d is not positive", a.K)
	case a.K > a.N:
		return fail(ErrArgument, "k = %d exceeds %d points", a.K, a.N)
	case a.Batch < 0 || a.Batch > math.MaxInt32:
		return fail(ErrArgument, "batch = %d rows", a.Batch)
	case a.MaxIter < 1:
		return fail(ErrArgument, "max iterations = %d is not positive", a.MaxIter)
	case a.Batch > 0 && int64(a.MaxIter) > maxDrawn/int64(a.Batch):
		return fail(ErrArgument, "%d mini-batches of %d rows are more than 2^36 rows, which sums of 64 bits are too coarse for", a.MaxIter, a.Batch)
	case !(a.Tol >= 0) || math.IsInf(a.Tol, 1):
		return fail(ErrArgument, "tolerance = %v is negative or not finite", a.Tol)
	case a.Initial != nil && len(a.Initial) != a.K*a.D:
		return fail(ErrShape, "initial centroids have %d values, not %d", len(a.Initial), a.K*a.D)
	case a.Weights != nil && len(a.Weights) != a.N:
		return fail(ErrShape, "%d weights for %d points", len(a.Weights), a.N)
	}
	positive := a.Weights == nil
	for i, w := range a.Weights {
		if !(w >= 0) || math.IsInf(float64(w), 1) {
			return fail(ErrArgument, "weight %d = %v is negative or not finite", i, w)
		}
		positive = positive || w > 0
	}
	if !positive {
		return fail(ErrArgument, "all weights are 0")
	}
	for i, v := range a.Initial {
		if v-v != 0 {
			return fail(ErrNonFinite, "initial centroid %d, column %d = %v", i/a.D, i%a.D, v)
		}
	}
	return nil
}
