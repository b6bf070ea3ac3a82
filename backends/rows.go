// SPDX-License-Identifier: Apache-2.0

package backends

import "fmt"

// NormBlock is how many rows of an RMSNorm's gradient are added in float32 before the gain's gradient adds them in float64.
const NormBlock = 32

// RMSNorm is the argument of the op rmsnorm: rows over their root mean square (Zhang and Sennrich, arXiv 1910.07467), or, with DY, the gradient of that. Values are not checked: what is not finite propagates.
//
// Forward, u = X + Delta and r = 1/√(mean(u²) + Epsilon): Sum = u, Scale = r, Out = u·r·Gain. The gradient of u, which X holds: n = X·r, t = DY·n, Out = r·(DY·Gain − n·mean(t·Gain)), and DGain += Σ t over the rows.
type RMSNorm struct {
	X       []float32 // rows of Cols values
	Cols    int
	Delta   []float32 // as many, added to X first; nil: nothing is. Forward only, like Sum
	Sum     []float32 // X + Delta, needed with Delta; may be X or Delta
	Gain    []float32 // Cols; nil: all 1
	Scale   []float32 // a value a row: out, and in for the gradient
	DY      []float32 // the gradient of Out, for the gradient of X; nil: forward
	Out     []float32 // as many as X; of the gradient it may be DY
	Add     bool      // the gradient is added to what Out holds
	DGain   []float32 // Cols, with DY and Gain: added to
	Parts   []float32 // room for ⌈rows/NormBlock⌉·Cols values, with DGain; a device has its own
	Epsilon float64   // at least 0

	XAt, DeltaAt, SumAt, GainAt, ScaleAt, DYAt, OutAt, DGainAt Address // where on the device; 0: in the slice
}

// Rows is the number of rows, after Check.
func (a *RMSNorm) Rows() int { return len(a.X) / a.Cols }

// array is an operand with its name and the length that it should have; written ones may overlap nothing but what share names.
type array struct {
	name    string
	v       []float32
	n       int
	written bool
	share   string
}

// checkRows validates rows and the operands of an op. Those that are nil and need not be there have length 0.
func checkRows(op Op, n, cols int, arrays ...array) error {
	switch {
	case n == 0:
		return Fail(ErrArgument, op, "0", "x is empty")
	case cols < 1 || cols > n || n%cols != 0:
		return Fail(ErrShape, op, fmt.Sprint(n), "%d values are no rows of %d", n, cols)
	}
	for _, a := range arrays {
		if len(a.v) != a.n {
			return Fail(ErrShape, op, rowShape(n, cols), "%s has %d values, not %d", a.name, len(a.v), a.n)
		}
	}
	for i, a := range arrays {
		for j, b := range arrays {
			if i == j || !a.written || len(a.v) == 0 || len(b.v) == 0 || j < i && b.written || !overlap(a.v, b.v) {
				continue
			}
			if &a.v[0] != &b.v[0] || len(a.v) != len(b.v) || a.share != b.name && b.share != a.name {
				return Fail(ErrAlias, op, rowShape(n, cols), "%s overlaps %s", a.name, b.name)
			}
		}
	}
	return nil
}

// rowShape formats rows as errors show them.
func rowShape(n, cols int) string { return fmt.Sprintf("%dx%d", n/cols, cols) }

// given is n where v is there, else 0.
func given(v []float32, n int) int {
	if v == nil {
		return 0
	}
	return n
}

// Check validates lengths, overlap and epsilon.
func (a *RMSNorm) Check() error {
	n, cols := len(a.X), max(a.Cols, 1)
	rows := n / cols
	list := [8]array{{"x", a.X, n, false, ""}, {"scale", a.Scale, rows, a.DY == nil, ""}, {"gain", a.Gain, given(a.Gain, cols), false, ""}, {"out", a.Out, n, true, "dy"}}
	used := list[:4]
	if a.DY == nil {
		used = append(used, array{"delta", a.Delta, given(a.Delta, n), false, ""}, array{"sum", a.Sum, given(a.Delta, n), true, "x"})
		if a.Delta != nil && len(a.Sum) == n && &a.Sum[0] == &a.Delta[0] {
			used[len(used)-1].share = "delta"
		}
	} else {
		used = append(used, array{"dy", a.DY, n, false, ""}, array{"dgain", a.DGain, given(a.Gain, cols), true, ""}, array{"parts", a.Parts, given(a.Gain, (rows+NormBlock-1)/NormBlock*cols), true, ""})
	}
	if err := checkRows(OpRMSNorm, n, a.Cols, used...); err != nil {
		return err
	}
	if a.Add && a.DY == nil {
		return Fail(ErrArgument, OpRMSNorm, fmt.Sprint(n), "add is for gradients, and there is no dy")
	}
	if !(a.Epsilon >= 0) {
		return Fail(ErrArgument, OpRMSNorm, fmt.Sprint(n), "epsilon = %v is negative or not a number", a.Epsilon)
	}
	return nil
}

// Softmax is the argument of the op softmax: rows of powers over their sum, in place, or, with P, the gradient of that. Values are not checked.
//
// Forward, g the greatest value of a row and e = exp(Scale·(x − g)): X = e·(Factor/Σe). The gradient, with P the softmax of factor 1 and X its gradient: X = Scale·P·(X − ΣP·X).
type Softmax struct {
	X      []float32 // rows of Cols values, in and out
	Cols   int
	Period int       // 0, or causal attention's: row r ends after Cols − Period + 1 + r mod Period values; the others are not read, and become 0
	P      []float32 // as many as X, for the gradient; nil: forward
	Scale  float32   // at least 0
	Factor float64   // forward
	Stats  []float64 // forward: g and Σe of each row; nil: not kept. Both are NaN when the sum is

	XAt, PAt Address // where on the device; 0: in the slice
}

// Rows is the number of rows, after Check.
func (a *Softmax) Rows() int { return len(a.X) / a.Cols }

// Check validates lengths, overlap, period and scale.
func (a *Softmax) Check() error {
	n := len(a.X)
	if err := checkRows(OpSoftmax, n, a.Cols, array{"x", a.X, n, true, ""}, array{"p", a.P, given(a.P, n), false, ""}); err != nil {
		return err
	}
	switch {
	case a.Period < 0 || a.Period > a.Cols:
		return Fail(ErrArgument, OpSoftmax, rowShape(n, a.Cols), "a period of %d rows is not within 0..%d", a.Period, a.Cols)
	case !(a.Scale >= 0):
		return Fail(ErrArgument, OpSoftmax, rowShape(n, a.Cols), "scale = %v is negative or not a number", a.Scale)
	case a.Stats != nil && (a.P != nil || len(a.Stats) != 2*a.Rows()):
		return Fail(ErrShape, OpSoftmax, rowShape(n, a.Cols), "stats has %d values, not two a row, or belongs to the softmax and not to its gradient", len(a.Stats))
	}
	return nil
}

// Function is what stands between two products of a feed-forward.
type Function uint8

// The functions; numbers are those of the C ABI.
const (
	ReLU2  Function = 1 // x·max(x, 0) (So et al., arXiv 2109.08668)
	SwiGLU Function = 2 // g·σ(g)·u, where a row of X holds the g and then the u (Shazeer, arXiv 2002.05202)
)

// Inputs is how many values of X go into one of the result.
func (f Function) Inputs() int {
	if f == SwiGLU {
		return 2
	}
	return 1
}

// Activate is the argument of the op activate: a function of rows, or, with DY, its gradient. Values are not checked.
type Activate struct {
	Function Function
	X        []float32 // rows of Cols values, or of 2·Cols with SwiGLU
	Cols     int       // of the function's result
	DY       []float32 // rows of Cols values, the gradient of that; nil: forward
	Out      []float32 // rows of Cols values; with DY as many as X, and it may be X

	XAt, DYAt, OutAt Address // where on the device; 0: in the slice
}

// Rows is the number of rows, after Check.
func (a *Activate) Rows() int { return len(a.X) / (a.Cols * a.Function.Inputs()) }

// Check validates the function, lengths and overlap.
func (a *Activate) Check() error {
	if a.Function != ReLU2 && a.Function != SwiGLU {
		return Fail(ErrArgument, OpActivate, fmt.Sprint(len(a.X)), "function = %d is not known", a.Function)
	}
	n, wide := len(a.X), a.Function.Inputs()
	small := n / wide
	out, share := small, ""
	if a.DY != nil {
		out, share = n, "x"
	}
	if a.Cols > n {
		return Fail(ErrShape, OpActivate, fmt.Sprint(n), "%d values are no rows of %d", n, a.Cols)
	}
	return checkRows(OpActivate, n, a.Cols*wide, array{"x", a.X, n, false, ""}, array{"dy", a.DY, given(a.DY, small), false, ""}, array{"out", a.Out, out, true, share})
}
