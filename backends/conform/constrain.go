// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"fmt"
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
)

func (s *suite) constrain() {
	for ni, n := range s.sizes() {
		for _, kind := range half(ni) {
			for _, radius := range radii {
				for _, inPlace := range []bool{false, true} {
					s.constrainCase(kind, s.data(kind, n), radius, inPlace)
				}
			}
		}
		s.nonFinite(n, func(c *call, x []float32) {
			v := inout(c, x)
			c.failed(c.Backend.Constrain(c.Kernel, &backends.Constrain{X: v, Dst: v, Radius: 1}))
			record(&c.out, "value", v) // stays as it was
		})
	}
}

// radii: none, tiny, in the middle of what norms are, no limit.
var radii = []float64{0, 1e-42, 1e-20, 0.5, 1, 100, 1e38, math.Inf(1)}

func (s *suite) constrainCase(kind string, x []float32, radius float64, inPlace bool) {
	s.compare(fmt.Sprintf("%s n=%d radius=%v in place=%v", kind, len(x), radius, inPlace), func(c *call) {
		var a backends.Constrain
		if inPlace {
			a.X = inout(c, x)
			a.Dst = a.X
		} else {
			a.X, a.Dst = input(c, x), output[float32](c, len(x))
		}
		a.Radius = radius
		if !c.failed(c.Backend.Constrain(c.Kernel, &a)) {
			record(&c.out, "norm", []float64{a.Norm})
			record(&c.out, "value", a.Dst)
		}
	})
}

func (s *suite) largeConstrain() {
	for _, n := range []int{cutSize, pastSize} {
		for _, radius := range []float64{1, 1e9} {
			s.constrainCase("normal", s.data("normal", n), radius, false)
		}
		s.constrainCase("normal", s.data("normal", n), 1, true)
	}
}

func (s *suite) randomConstrain(d *draws) {
	rows, cols := d.matrix()
	kind, x := d.values(rows * cols)
	s.constrainCase(kind, x, d.radius(), d.upTo(1) == 0)
}

func (s *suite) reduce() {
	for ni, n := range s.sizes() {
		for _, kind := range half(ni) {
			for _, other := range half(ni + 1) {
				if s.op == backends.OpNorm2 {
					s.reduceCase(kind, s.data(kind, n), nil)
					s.reduceCase(other, s.data(other, n), nil)
					continue
				}
				s.reduceCase(kind+", "+other, s.data(kind, n), s.draw(other, n, uint64(n)+1))
			}
		}
		s.nonFinite(n, func(c *call, x []float32) {
			a := backends.Reduce{X: input(c, x)}
			if s.op == backends.OpDot {
				a.Y = input(c, s.data("zero", n))
			}
			c.failed(c.Backend.Reduce(c.Kernel, &a))
		})
	}
}

func (s *suite) reduceCase(kind string, x, y []float32) {
	s.compare(fmt.Sprintf("%s n=%d", kind, len(x)), func(c *call) {
		a := backends.Reduce{X: input(c, x), Y: input(c, y)}
		if !c.failed(c.Backend.Reduce(c.Kernel, &a)) {
			record(&c.out, "result", []float64{a.Result})
		}
	})
}

func (s *suite) randomReduce(d *draws) {
	rows, cols := d.matrix()
	kind, x := d.values(rows * cols)
	var y []float32
	if s.op == backends.OpDot {
		_, y = d.values(rows * cols)
	}
	s.reduceCase(kind, x, y)
}

// nonFinite puts a NaN or an infinity at both ends and in the middle. The error must name the first.
func (s *suite) nonFinite(n int, body func(c *call, x []float32)) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		for _, at := range []int{0, n / 2, n - 1} {
			x := slices.Clone(s.data("normal", n))
			x[at], x[n-1] = bad, bad
			s.compare(fmt.Sprintf("n=%d with %v at %d", n, bad, at), func(c *call) {
				body(c, x)
				if want := fmt.Sprintf("%v: x[%d] = %v", backends.ErrNonFinite, at, bad); string(c.out.bytes[:min(len(want), len(c.out.bytes))]) != want {
					c.wrong("the error is %q, and should be %q", c.out.bytes[:c.out.parts[0].end], want)
				}
			})
		}
	}
}
