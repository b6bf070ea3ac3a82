// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"fmt"
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
)

// rowShapes are rows about where lanes, chunks and blocks of rows end.
func (s *suite) rowShapes() [][2]int {
	if s.o.Short {
		return [][2]int{{1, 1}, {3, 33}, {33, 5}, {2, 4097}}
	}
	list := [][2]int{{1, 1}, {2, 2}, {3, 7}, {31, 8}, {32, 9}, {33, 15}, {64, 16}, {65, 17}, {5, 31}, {40, 32}, {6, 33}, {96, 47}, {97, 64}, {7, 65}, {300, 3}, {1000, 1}, {12, 127}, {70, 128}, {4, 129}, {129, 255}, {3, 512}, {200, 513}, {5, 1000}}
	return append(list, [2]int{1, 4095}, [2]int{2, 4096}, [2]int{3, 4097}, [2]int{2, 8193}, [2]int{1, 40_009}, [2]int{1000, 130}, [2]int{4099, 65})
}

// tame are kinds whose powers are neither all 0 nor infinite.
var tame = []string{"normal", "uniform", "few", "threshold"}

// norms compares norms and their gradients with and without each operand that may be missing.
func (s *suite) norms() {
	for i, shape := range s.rowShapes() {
		for j, kind := range append(half(i), tame[i%4]) {
			for options := range 8 {
				if options < 2 || (options+i+j)%3 == 0 {
					s.normCase(kind, s.data(kind, shape[0]*shape[1]), shape[1], options, uint64(i+1))
				}
			}
		}
	}
	s.rowsNotFinite(func(c *call, x []float32) {
		y, scale := output[float32](c, len(x)), output[float32](c, 2)
		c.failed(c.Backend.RMSNorm(c.Kernel, &backends.RMSNorm{X: input(c, x), Cols: len(x) / 2, Out: y, Scale: scale, Epsilon: 1e-5}))
		record(&c.out, "result", y)
		record(&c.out, "scale", scale)
	})
}

// normCase: bit 0 of the options is the gain, bit 1 delta or that the gradient is added, bit 2 the gradient; bit 3 that the sum is in the place of x, else bit 4 in that of delta.
func (s *suite) normCase(kind string, x []float32, cols, options int, seed uint64) {
	n := len(x)
	rows := n / cols
	more, gain := s.draw("normal", n, seed), s.draw("uniform", cols, seed)
	s.compare(fmt.Sprintf("%s %dx%d options=%d", kind, rows, cols, options), func(c *call) {
		a := backends.RMSNorm{X: input(c, x), Cols: cols, Scale: output[float32](c, rows), Epsilon: 1e-5}
		if options&1 != 0 {
			a.Gain = input(c, gain)
		}
		switch {
		case options&4 == 0 && options&2 != 0:
			switch a.Out = output[float32](c, n); {
			case options&8 != 0:
				a.X, a.Delta = inout(c, x), input(c, more)
				a.Sum = a.X
			case options&16 != 0:
				a.Delta = inout(c, more)
				a.Sum = a.Delta
			default:
				a.Delta, a.Sum = input(c, more), output[float32](c, n)
			}
		case options&4 == 0:
			a.Out = output[float32](c, n)
		default:
			for i := range a.Scale {
				a.Scale[i] = 0.5 + float32(i%7)/4
			}
			a.Scale = input(c, slices.Clone(a.Scale))
			if a.Add = options&2 != 0; a.Add {
				a.DY, a.Out = input(c, more), inout(c, s.draw("laplace", n, seed))
			} else {
				a.Out = inout(c, more)
				a.DY = a.Out
			}
			if a.Gain != nil {
				a.DGain, a.Parts = inout(c, s.draw("normal", cols, seed+9)), output[float32](c, (rows+backends.NormBlock-1)/backends.NormBlock*cols)
			}
		}
		if c.failed(c.Backend.RMSNorm(c.Kernel, &a)) {
			return
		}
		record(&c.out, "result", a.Out)
		record(&c.out, "scale", a.Scale)
		record(&c.out, "sum", a.Sum)
		record(&c.out, "gain", a.DGain)
	})
}

func (s *suite) randomNorm(d *draws) {
	rows, cols := d.matrix()
	kind, x := d.values(rows * cols)
	s.normCase(kind, x, cols, d.upTo(31), uint64(d.upTo(1000)))
}

// softmaxes compares rows that are whole and those that a mask ends.
func (s *suite) softmaxes() {
	for i, shape := range s.rowShapes() {
		for j, kind := range append(half(i), tame...) {
			periods := []int{0, 1, shape[1], (shape[1] + 1) / 2}
			x := s.data(kind, shape[0]*shape[1])
			s.softmaxCase(kind, x, shape[1], 0, j%2 == 1, float32(1+j%3)/2)
			s.softmaxCase(kind, x, shape[1], periods[(i+j)%4], j%2 == 0, 0.125)
		}
	}
	s.rowsNotFinite(func(c *call, x []float32) {
		y, stats := inout(c, x), output[float64](c, 4)
		c.failed(c.Backend.Softmax(c.Kernel, &backends.Softmax{X: y, Cols: len(x) / 2, Scale: 1, Factor: 1, Stats: stats}))
		record(&c.out, "result", y)
		record(&c.out, "stats", stats)
	})
}

func (s *suite) softmaxCase(kind string, x []float32, cols, period int, gradient bool, scale float32) {
	n := len(x)
	rows := n / cols
	s.compare(fmt.Sprintf("%s %dx%d period=%d scale=%v gradient=%v", kind, rows, cols, period, scale, gradient), func(c *call) {
		a := backends.Softmax{X: inout(c, x), Cols: cols, Period: period, Scale: scale, Factor: 0.75}
		if gradient {
			a.P = input(c, s.draw("uniform", n, 3))
		} else {
			a.Stats = output[float64](c, 2*rows)
		}
		if c.failed(c.Backend.Softmax(c.Kernel, &a)) {
			return
		}
		record(&c.out, "result", a.X)
		record(&c.out, "stats", a.Stats)
	})
}

func (s *suite) randomSoftmax(d *draws) {
	rows, cols := d.matrix()
	kind, x := d.values(rows * cols)
	s.softmaxCase(kind, x, cols, d.upTo(cols), d.upTo(1) == 1, float32(d.upTo(40))/8)
}

// functions compares each function and its gradient, the latter in place too.
func (s *suite) functions() {
	for i, shape := range s.rowShapes() {
		for j, kind := range append(half(i), tame[i%4]) {
			for _, f := range []backends.Function{backends.ReLU2, backends.SwiGLU} {
				x := s.data(kind, shape[0]*shape[1]*f.Inputs())
				s.functionCase(kind, x, f, shape[1], (i+j)%3)
				s.functionCase(kind, x, f, shape[1], (i+j+1)%3)
			}
		}
	}
	for _, f := range []backends.Function{backends.ReLU2, backends.SwiGLU} {
		s.rowsNotFinite(func(c *call, x []float32) {
			in, y := input(c, x), output[float32](c, len(x)/f.Inputs())
			c.failed(c.Backend.Activate(c.Kernel, &backends.Activate{Function: f, X: in, Cols: len(y) / 2, Out: y}))
			record(&c.out, "result", y)
			dx := output[float32](c, len(x))
			c.failed(c.Backend.Activate(c.Kernel, &backends.Activate{Function: f, X: in, Cols: len(y) / 2, DY: input(c, s.data("normal", len(y))), Out: dx}))
			record(&c.out, "gradient", dx)
		})
	}
}

// functionCase: mode 0 is forward, 1 the gradient, 2 the gradient in the place of x.
func (s *suite) functionCase(kind string, x []float32, f backends.Function, cols, mode int) {
	n := len(x) / f.Inputs()
	rows := n / cols
	s.compare(fmt.Sprintf("%s function=%d %dx%d mode=%d", kind, f, rows, cols, mode), func(c *call) {
		a := backends.Activate{Function: f, Cols: cols}
		switch mode {
		case 0:
			a.X, a.Out = input(c, x), output[float32](c, n)
		case 1:
			a.X, a.Out = input(c, x), output[float32](c, len(x))
		case 2:
			a.X = inout(c, x)
			a.Out = a.X
		}
		if mode > 0 {
			a.DY = input(c, s.draw("normal", n, 5))
		}
		if !c.failed(c.Backend.Activate(c.Kernel, &a)) {
			record(&c.out, "result", a.Out)
		}
	})
}

func (s *suite) randomFunction(d *draws) {
	rows, cols := d.matrix()
	f := backends.Function(1 + d.upTo(1))
	kind, x := d.values(rows * cols * f.Inputs())
	s.functionCase(kind, x, f, cols, d.upTo(2))
}

// rowsNotFinite runs cases of two rows of which the second holds what is not finite, and powers at the ends of their range.
func (s *suite) rowsNotFinite(body func(c *call, x []float32)) {
	for _, cols := range []int{1, 6, 40, 66} {
		for _, bad := range []float32{float32(math.NaN()), float32(math.Copysign(math.NaN(), -1)), float32(math.Inf(1)), float32(math.Inf(-1)), -104, -103.99999, 88.72283, 88.72284, 89, 90, 1e30, -1e30} {
			for at := range 2 {
				x := slices.Clone(s.data("normal", 4*cols))
				x[2*cols+at*(2*cols-1)] = bad
				s.compare(fmt.Sprintf("%v at %d of 2x%d", bad, at*(2*cols-1), 2*cols), func(c *call) { body(c, x) })
			}
		}
	}
}

// updates compares steps of both methods, from moments of 0 too, and moments on their way to becoming subnormal.
func (s *suite) updates() {
	for i, n := range s.sizes() {
		for _, kind := range half(i) {
			for _, m := range []backends.Method{backends.AdamW, backends.Momentum} {
				s.updateCase(kind, s.data(kind, n), m, i%3 == 0, float64(i%4)/100)
			}
		}
	}
}

func (s *suite) updateCase(kind string, grad []float32, method backends.Method, first bool, decay float64) {
	n := len(grad)
	s.compare(fmt.Sprintf("%s n=%d method=%d first=%v decay=%v", kind, n, method, first, decay), func(c *call) {
		a := backends.Update{Method: method, Value: input(c, s.draw("normal", n, 2)), Grad: input(c, grad), M: inout(c, s.draw("laplace", n, 3)), Delta: output[float32](c, n),
			Rate: 3e-3, Decay: decay, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Unbias1: 1.7, Unbias2: 9.5}
		if method == backends.AdamW {
			a.V = inout(c, s.draw("uniform", n, 4))
		}
		for i := range a.V {
			a.V[i] *= a.V[i]
		}
		if first {
			clear(a.M)
			clear(a.V)
		}
		if !c.failed(c.Backend.Update(c.Kernel, &a)) {
			record(&c.out, "step", a.Delta)
			record(&c.out, "moment", a.M)
			record(&c.out, "second moment", a.V)
		}
	})
}

func (s *suite) randomUpdate(d *draws) {
	rows, cols := d.matrix()
	kind, x := d.values(rows * cols)
	s.updateCase(kind, x, backends.Method(1+d.upTo(1)), d.upTo(3) == 0, float64(d.upTo(10))/50)
}
