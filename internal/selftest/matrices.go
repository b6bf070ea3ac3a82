// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

func matmulTrials() (list []*trial) {
	add := func(a backends.MatMul, exact bool, draw func(n int, seed uint64) []float32) {
		list = append(list, matmulTrial(a, exact, draw))
	}
	tiny := func(n int, seed uint64) []float32 { // whose products are subnormal
		x := small(n, seed)
		for i := range x {
			x[i] *= 0x1p-70
		}
		return x
	}
	add(backends.MatMul{M: 3, N: 5, K: 7}, false, values)
	add(backends.MatMul{M: 17, N: 33, K: 40, TransB: true, Accumulate: true}, false, values)
	add(backends.MatMul{M: 14, N: 19, K: 70, TransA: true, Batch: 2}, false, values)
	add(backends.MatMul{M: 9, N: 34, K: 33}, true, small)
	add(backends.MatMul{M: 33, N: 17, K: 65, TransA: true, TransB: true, Accumulate: true}, true, small)
	add(backends.MatMul{M: 10, N: 18, K: 35, TransB: true, Batch: 2}, true, tiny)
	return list
}

// small are integers whose products and sums are exact.
func small(n int, seed uint64) []float32 { return whole(n, 4, seed) }

func matmulTrial(a backends.MatMul, exact bool, draw func(n int, seed uint64) []float32) *trial {
	rowsA, colsA, rowsB, colsB := a.M, a.K, a.K, a.N
	if a.TransA {
		rowsA, colsA = colsA, rowsA
	}
	if a.TransB {
		rowsB, colsB = colsB, rowsB
	}
	const gap = 3
	a.LDA, a.LDB, a.LDC, a.Batch = colsA+gap, colsB+gap, a.N+gap, max(1, a.Batch)
	a.StrideA, a.StrideB, a.StrideC = rowsA*a.LDA, rowsB*a.LDB, a.M*a.LDC
	a.A, a.B, a.C = draw(a.Batch*a.StrideA, 1), draw(a.Batch*a.StrideB, 2), draw(a.SizeC(), 3)
	return &trial{shape: a.Shape(), exact: exact, call: func(t *try) error {
		a := a
		a.A, a.B, a.C = input(&t.ground, a.A), input(&t.ground, a.B), inout(&t.ground, a.C)
		err := t.backend.MatMul(t.kernel, &a)
		take(&t.out, "value", a.C)
		return err
	}}
}

func activationsTrials() (list []*trial) {
	for _, s := range [][2]int{{1, 7}, {3, 65}, {2, 2051}} {
		list = append(list, activationsTrial(s[0], s[1]))
	}
	return list
}

func activationsTrial(rows, cols int) *trial {
	x := values(rows*cols, uint64(cols))
	return &trial{shape: fmt.Sprintf("%dx%d", rows, cols), call: func(t *try) error {
		d := quant.Activations{Rows: rows, Cols: cols, Codes: output[int8](&t.ground, rows*cols), Scales: output[float32](&t.ground, rows)}
		err := t.backend.Activations(t.kernel, &backends.Activations{X: input(&t.ground, x), Dst: &d})
		take(&t.out, "code", d.Codes)
		take(&t.out, "scale", d.Scales)
		return err
	}}
}

// coded is a matrix of codes in a form; the seed makes codes and scales.
func coded(rows, cols, group int, levels quant.Levels, format quant.Format, seed uint64) (*quant.Tensor, error) {
	r := rand.New(rand.NewPCG(seed, 4))
	plain := quant.Tensor{Rows: rows, Cols: cols, Levels: levels, Format: quant.Int8, Group: group, Codes: make([]int8, rows*cols), Scales: make([]float32, quant.ScaleCount(rows, cols, group))}
	most := 1
	if levels == quant.Quinary {
		most = 2
	}
	for i := range plain.Codes {
		plain.Codes[i] = int8(r.IntN(2*most+1) - most)
	}
	if levels == quant.Sparse {
		for row := range rows {
			quant.SparseCodes(plain.Codes[row*cols:][:cols], values(cols, seed+uint64(row)))
		}
	}
	for i := range plain.Scales {
		plain.Scales[i] = float32(r.NormFloat64())
	}
	return plain.Convert(nil, format)
}

// forms are shapes with levels and formats that between them have every way of packing.
var forms = []struct {
	rows, cols, group, batch int
	levels                   quant.Levels
	format                   quant.Format
}{
	{3, 7, 0, 1, quant.Ternary, quant.Int8},
	{5, 65, 0, 2, quant.Quinary, quant.Int8},
	{9, 257, 128, 1, quant.Ternary, quant.Bits2},
	{4, 323, 7, 3, quant.Ternary, quant.Base3},
	{4, 640, 320, 1, quant.Sparse, quant.Four5},
	{6, 200, 0, 5, quant.Ternary, quant.Planes},
}

// matrix is one of a form, and what went wrong when it was made.
type matrix struct {
	tensor *quant.Tensor
	err    error
}

// matrices has one of each form. Two ops take them, which must not change them.
var matrices = sync.OnceValue(func() (list []matrix) {
	for i, f := range forms {
		w, err := coded(f.rows, f.cols, f.group, f.levels, f.format, uint64(i))
		list = append(list, matrix{w, err})
	}
	return list
})

func ternaryTrials() (list []*trial) {
	for i, f := range forms {
		m := matrices()[i]
		r := rand.New(rand.NewPCG(uint64(i), 5))
		x := make([]int8, f.batch*f.cols)
		for i := range x {
			x[i] = int8(r.IntN(255) - 127)
		}
		scales := positive(f.batch, uint64(i))
		list = append(list, &trial{shape: fmt.Sprintf("%dx%dx%d %v", f.rows, f.cols, f.batch, f.format), call: func(t *try) error {
			if m.err != nil {
				return m.err
			}
			g, w := &t.ground, *m.tensor
			w.Codes, w.Packed, w.Signs, w.Index, w.Scales = some(g, w.Codes), some(g, w.Packed), some(g, w.Signs), some(g, w.Index), input(g, w.Scales)
			a := backends.Ternary{W: &w, X: &quant.Activations{Rows: f.batch, Cols: f.cols, Codes: input(g, x), Scales: input(g, scales)}, Out: output[float32](g, f.batch*f.rows)}
			err := t.backend.Ternary(t.kernel, &a)
			take(&t.out, "value", a.Out)
			return err
		}})
	}
	return list
}

func recodeTrials() (list []*trial) {
	for i, f := range forms {
		m := matrices()[i]
		to := []quant.Format{quant.Bits2, quant.Int8, quant.Base3}[i%3]
		list = append(list, &trial{shape: fmt.Sprintf("%dx%d %v to %v", f.rows, f.cols, f.format, to), call: func(t *try) error {
			if m.err != nil {
				return m.err
			}
			g, w := &t.ground, *m.tensor
			dst, err := w.Frame(nil, to)
			if err != nil {
				return err
			}
			w.Codes, w.Packed, w.Signs, w.Index = some(g, w.Codes), some(g, w.Packed), some(g, w.Signs), some(g, w.Index)
			dst.Codes, dst.Packed = output[int8](g, len(dst.Codes)), output[byte](g, len(dst.Packed))
			err = t.backend.Recode(t.kernel, &backends.Recode{From: &w, To: dst})
			take(&t.out, "code", dst.Codes)
			take(&t.out, "packed", dst.Packed)
			return err
		}})
	}
	return list
}
