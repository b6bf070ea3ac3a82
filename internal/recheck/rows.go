// SPDX-License-Identifier: Apache-2.0

package recheck

import (
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

// Ops whose rows stand for themselves: one row, drawn, is enough.

func matmul(a *backends.MatMul, draw func(int) int) Check {
	batch, row := draw(a.Batch), draw(a.M)
	at := batch*a.StrideC + row*a.LDC
	c := make([]float32, a.N)
	if a.Accumulate {
		copy(c, a.C[at:][:a.N])
	}
	return Check{InPlace: a.Accumulate, Compare: func() string {
		b := backends.MatMul{C: c, M: 1, N: a.N, K: a.K, TransA: a.TransA, TransB: a.TransB, Accumulate: a.Accumulate, LDA: a.LDA, LDB: a.LDB, LDC: a.N, Batch: 1}
		b.B = a.B[batch*a.StrideB:]
		if b.A = a.A[batch*a.StrideA:]; a.TransA {
			b.A = b.A[row:]
		} else {
			b.A = b.A[row*a.LDA:]
		}
		err := oracle.MatMul(backends.Kernel{Op: backends.OpMatMul}, &b)
		return after(err, func() string { return floats("dst", at, a.C[at:], c) })
	}}
}

func activations(a *backends.Activations, draw func(int) int) Check {
	row, d := draw(a.Dst.Rows), a.Dst
	return Check{Compare: func() string {
		one := new(quant.Activations)
		one.Resize(1, d.Cols)
		err := oracle.Activations(backends.Kernel{Op: backends.OpActivations}, &backends.Activations{X: a.X[row*d.Cols:][:d.Cols], Dst: one})
		return after(err, func() string {
			if !slices.Equal(d.Codes[row*d.Cols:][:d.Cols], one.Codes) {
				return "codes of a row differ"
			}
			return floats("scale", row, d.Scales[row:], one.Scales)
		})
	}}
}

func ternary(a *backends.Ternary, draw func(int) int) Check {
	row, n := draw(a.X.Rows), a.W.Rows
	return Check{Compare: func() string {
		x := &quant.Activations{Rows: 1, Cols: a.X.Cols, Codes: a.X.Codes[row*a.X.Cols:][:a.X.Cols], Scales: a.X.Scales[row:][:1]}
		out := make([]float32, n)
		err := oracle.Ternary(backends.Kernel{Op: backends.OpTernary}, &backends.Ternary{W: a.W, X: x, Out: out})
		return after(err, func() string { return floats("dst", row*n, a.Out[row*n:], out) })
	}}
}

func norm(a *backends.RMSNorm, draw func(int) int) Check {
	row, c := draw(a.Rows()), a.Cols
	take := func(x []float32) []float32 { // a row as it is before the call
		if x == nil {
			return nil
		}
		return slices.Clone(x[row*c:][:c])
	}
	b := backends.RMSNorm{X: take(a.X), Cols: c, Delta: take(a.Delta), Gain: a.Gain, DY: take(a.DY), Add: a.Add, Epsilon: a.Epsilon}
	inPlace := a.DY != nil && (a.Add || a.Gain != nil || same(a.DY, a.Out)) || same(a.Sum, a.X) || same(a.Sum, a.Delta)
	if a.DY == nil {
		b.Out, b.Scale = make([]float32, c), make([]float32, 1)
		if a.Delta != nil {
			b.Sum = make([]float32, c)
		}
	} else {
		b.Out, b.Scale = take(a.Out), slices.Clone(a.Scale[row:][:1])
		if a.Gain != nil { // whose gradient is over all rows, and is not compared
			b.DGain, b.Parts = make([]float32, c), make([]float32, c)
		}
	}
	return Check{InPlace: inPlace, Compare: func() string {
		err := oracle.RMSNorm(backends.Kernel{Op: backends.OpRMSNorm}, &b)
		return after(err, func() string {
			t := floats("out", row*c, a.Out[row*c:], b.Out)
			if a.DY == nil {
				t = first(t, floats("scale", row, a.Scale[row:], b.Scale))
			}
			if b.Sum != nil {
				t = first(t, floats("sum", row*c, a.Sum[row*c:], b.Sum))
			}
			return t
		})
	}}
}

func softmax(a *backends.Softmax, draw func(int) int) Check {
	row, rows := draw(a.Rows()), 1
	if a.Period > 0 { // where a row ends depends on its place in the period
		row -= row % a.Period
		rows = min(a.Period, a.Rows()-row)
	}
	from, n := row*a.Cols, rows*a.Cols
	b := backends.Softmax{X: slices.Clone(a.X[from:][:n]), Cols: a.Cols, Period: a.Period, Scale: a.Scale, Factor: a.Factor}
	if a.P != nil {
		b.P = a.P[from:][:n]
	}
	if a.Stats != nil {
		b.Stats = make([]float64, 2*rows)
	}
	return Check{InPlace: true, Compare: func() string {
		err := oracle.Softmax(backends.Kernel{Op: backends.OpSoftmax}, &b)
		return after(err, func() string {
			for i, v := range b.Stats {
				if t := number("a row's statistics", a.Stats[2*row+i], v); t != "" {
					return t
				}
			}
			return floats("x", from, a.X[from:], b.X)
		})
	}}
}

func activate(a *backends.Activate, draw func(int) int) Check {
	row, c := draw(a.Rows()), a.Cols
	wide := c * a.Function.Inputs()
	b := backends.Activate{Function: a.Function, X: slices.Clone(a.X[row*wide:][:wide]), Cols: c, Out: make([]float32, c)}
	n := c
	if a.DY != nil {
		n = wide
		b.DY, b.Out = a.DY[row*c:][:c], make([]float32, wide)
	}
	return Check{InPlace: same(a.X, a.Out), Compare: func() string {
		err := oracle.Activate(backends.Kernel{Op: backends.OpActivate}, &b)
		return after(err, func() string { return floats("out", row*n, a.Out[row*n:], b.Out) })
	}}
}

func update(a *backends.Update, draw func(int) int) Check {
	n := min(len(a.Value), 4096)
	from := draw(len(a.Value) - n + 1)
	part := func(x []float32) []float32 {
		if x == nil {
			return nil
		}
		return slices.Clone(x[from:][:n])
	}
	b := *a
	b.Value, b.Grad, b.M, b.V, b.Delta = a.Value[from:][:n], a.Grad[from:][:n], part(a.M), part(a.V), make([]float32, n)
	return Check{InPlace: true, Compare: func() string {
		err := oracle.Update(backends.Kernel{Op: backends.OpUpdate}, &b)
		return after(err, func() string {
			t := first(floats("delta", from, a.Delta[from:], b.Delta), floats("m", from, a.M[from:], b.M))
			if b.V != nil {
				t = first(t, floats("v", from, a.V[from:], b.V))
			}
			return t
		})
	}}
}
