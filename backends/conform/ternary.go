// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"fmt"
	"math/rand/v2"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

// activations compares rows of every kind of values.
func (s *suite) activations() {
	for ni, n := range s.sizes() {
		for _, kind := range half(ni) {
			x := s.data(kind, n)
			for _, cols := range []int{n, max(1, n/3), 17, 1} {
				if cols <= n && (cols > 1 || n < 300) {
					s.activationsCase(kind, x[:n/cols*cols], cols)
				}
			}
		}
		if n < 10_000 {
			s.nonFinite(n, func(c *call, x []float32) {
				d := activationsOf(c, 1, n)
				c.failed(c.Backend.Activations(c.Kernel, &backends.Activations{X: input(c, x), Dst: d}))
			})
		}
	}
}

func activationsOf(c *call, rows, cols int) *quant.Activations {
	return &quant.Activations{Rows: rows, Cols: cols, Codes: output[int8](c, rows*cols), Scales: output[float32](c, rows)}
}

func (s *suite) activationsCase(kind string, x []float32, cols int) {
	s.compare(fmt.Sprintf("%s n=%d cols=%d", kind, len(x), cols), func(c *call) {
		d := activationsOf(c, len(x)/cols, cols)
		if !c.failed(c.Backend.Activations(c.Kernel, &backends.Activations{X: input(c, x), Dst: d})) {
			record(&c.out, "code", d.Codes)
			record(&c.out, "scale", d.Scales)
		}
	})
}

func (s *suite) randomActivations(d *draws) {
	rows, cols := d.matrix()
	kind, x := d.values(rows * cols)
	s.activationsCase(kind, x, cols)
}

// ternaryShape is a matrix of codes, its groups, and rows of activations.
type ternaryShape struct{ rows, cols, group, batch int }

// forms are the levels with the formats that hold them.
func forms() (list []quant.Tensor) {
	for _, l := range []quant.Levels{quant.Ternary, quant.Quinary, quant.Sparse} {
		for f := quant.Int8; f <= quant.Planes; f++ {
			if (l != quant.Quinary || f == quant.Int8) && (f != quant.Four5 || l == quant.Sparse) {
				list = append(list, quant.Tensor{Levels: l, Format: f})
			}
		}
	}
	return list
}

// ternaries compares shapes around blocks of all formats and groups of rows, scales of groups that end with blocks and between them.
func (s *suite) ternaries() {
	shapes := []ternaryShape{
		{1, 1, 0, 1}, {1, 3, 0, 1}, {2, 4, 0, 2}, {3, 5, 2, 1}, {4, 63, 0, 1}, {5, 64, 64, 3}, {6, 65, 0, 1}, {7, 127, 100, 2}, {1, 255, 0, 1}, {8, 256, 256, 1}, {9, 257, 128, 2}, {5, 319, 0, 1}, {5, 320, 64, 1}, {4, 321, 320, 2},
		{3, 511, 0, 1}, {4, 512, 512, 4}, {2, 640, 320, 1}, {13, 777, 0, 5}, {3, 1000, 7, 1}, {4, 1279, 256, 1}, {4, 1281, 640, 1}, {3, 2561, 0, 2}, {66, 300, 300, 1}, {130, 20, 0, 1}, {300, 3, 1, 2},
		{2, 131_073, 0, 1}, {1, 170_000, 65_536, 1},
	}
	if s.o.Short {
		shapes = []ternaryShape{{5, 65, 0, 2}, {9, 257, 128, 1}, {4, 640, 320, 1}, {13, 777, 7, 3}}
	}
	r := rand.New(rand.NewPCG(7, 7))
	for _, shape := range shapes {
		for _, f := range forms() {
			for extreme := range 2 {
				s.ternaryCase(f, shape, extreme == 1, r)
			}
		}
	}
}

// ternaryCase draws codes, scales and activations; extreme ones are the greatest there are, all of one sign.
func (s *suite) ternaryCase(form quant.Tensor, shape ternaryShape, extreme bool, r *rand.Rand) {
	plain := quant.Tensor{Rows: shape.rows, Cols: shape.cols, Levels: form.Levels, Format: quant.Int8, Group: shape.group, Codes: make([]int8, shape.rows*shape.cols)}
	plain.Scales = make([]float32, quant.ScaleCount(shape.rows, shape.cols, shape.group))
	most := int8(1)
	if form.Levels == quant.Quinary {
		most = 2
	}
	for i := range plain.Codes {
		if plain.Codes[i] = int8(r.IntN(2*int(most)+1)) - most; extreme {
			plain.Codes[i] = most
		}
	}
	if form.Levels == quant.Sparse {
		for row := range shape.rows {
			quant.SparseCodes(plain.Codes[row*shape.cols:][:shape.cols], s.data("normal", shape.cols))
		}
	}
	for i := range plain.Scales {
		plain.Scales[i] = float32(r.NormFloat64())
	}
	x := make([]int8, shape.batch*shape.cols)
	scales := make([]float32, shape.batch)
	for i := range x {
		if x[i] = int8(r.IntN(255) - 127); extreme {
			x[i] = -128
		}
	}
	for i := range scales {
		scales[i] = float32(r.ExpFloat64())
	}
	w, err := plain.Convert(nil, form.Format)
	if s.op == backends.OpRecode {
		s.recodeCase(w, err, fmt.Sprintf("%v as %v %+v", form.Levels, form.Format, shape))
		return
	}
	s.compare(fmt.Sprintf("%v as %v %+v extreme=%v", form.Levels, form.Format, shape, extreme), func(c *call) {
		if err != nil {
			c.wrong("the case itself is wrong: %v", err)
			return
		}
		w := *w
		w.Codes, w.Packed, w.Signs, w.Index, w.Scales = some(c, w.Codes), some(c, w.Packed), some(c, w.Signs), some(c, w.Index), input(c, w.Scales)
		a := backends.Ternary{W: &w, X: &quant.Activations{Rows: shape.batch, Cols: shape.cols, Codes: input(c, x), Scales: input(c, scales)}, Out: output[float32](c, shape.batch*shape.rows)}
		if err := a.Check(); err != nil {
			c.wrong("the case itself is wrong: %v", err)
			return
		}
		if !c.failed(c.Backend.Ternary(c.Kernel, &a)) {
			record(&c.out, "value", a.Out)
		}
	})
}

// some is input, and nil for nothing.
func some[E any](c *call, v []E) []E {
	if len(v) == 0 {
		return nil
	}
	return input(c, v)
}

func (s *suite) randomTernary(d *draws) {
	rows, cols := d.matrix()
	rows = max(1, min(rows, 100_000/cols))
	all := forms()
	shape := ternaryShape{rows: rows, cols: cols, batch: 1 + d.upTo(3)}
	if d.upTo(2) == 0 { // as kernels do that unpack panels of the matrix
		shape.batch = 4 + d.upTo(46)
	}
	switch d.upTo(2) {
	case 0:
		shape.group = cols
	case 1:
		shape.group = 1 + d.upTo(cols-1)
	}
	s.ternaryCase(all[d.upTo(len(all)-1)], shape, d.upTo(5) == 0, d.r)
}

// recodeCase turns codes into each format that a kernel makes.
func (s *suite) recodeCase(w *quant.Tensor, err error, name string) {
	for to := quant.Int8; to <= quant.Base3; to++ {
		if w != nil && w.Levels == quant.Quinary && to != quant.Int8 {
			continue
		}
		s.compare(fmt.Sprintf("%s to %v", name, to), func(c *call) {
			if err != nil {
				c.wrong("the case itself is wrong: %v", err)
				return
			}
			w := *w
			dst, err := w.Frame(nil, to)
			if err != nil {
				c.wrong("the case itself is wrong: %v", err)
				return
			}
			w.Codes, w.Packed, w.Signs, w.Index = some(c, w.Codes), some(c, w.Packed), some(c, w.Signs), some(c, w.Index)
			dst.Codes, dst.Packed = output[int8](c, len(dst.Codes)), output[byte](c, len(dst.Packed))
			if !c.failed(c.Backend.Recode(c.Kernel, &backends.Recode{From: &w, To: dst})) {
				record(&c.out, "code", dst.Codes)
				record(&c.out, "packed", dst.Packed)
			}
		})
	}
}
