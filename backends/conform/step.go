// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/quant"
)

func (s *suite) step() {
	for ni, n := range s.sizes() {
		for ki, kind := range half(ni) {
			r := rand.New(rand.NewPCG(uint64(n), uint64(ki)))
			for rule := quant.AbsMean; rule <= quant.Stochastic; rule++ {
				for li, layout := range [][2]int{{n, 0}, {n, quant.PerRow}, {n, 64}, {n, 100}, {max(1, n/7), 5}, {1, 0}} {
					o := quant.Options{Rule: rule, Format: quant.Format(1 + (li+ki)%3), Cols: layout[0], Group: layout[1], Seed: uint64(n)}
					if (li+ki)%4 == 3 {
						o.Levels, o.Format = quant.Quinary, quant.Int8
					}
					if o.Group > o.Cols || n > 10_000 && o.Cols == 1 {
						continue
					}
					used := n / o.Cols * o.Cols
					s.stepCase(kind, s.data("normal", n)[:used], s.draw(kind, n, 7)[:used], radii[r.IntN(len(radii))], o)
				}
			}
		}
		for _, group := range []int{0, 1, n} {
			s.stepFails(n, quant.Options{Group: group})
		}
	}
}

// stepCase holds a step, that of pure Go too, against the three ops that it is: constrain, add, quantize.
func (s *suite) stepCase(kind string, params, delta []float32, w float64, o quant.Options) {
	n := len(params)
	o = o.WithDefaults(n)
	s.compare(fmt.Sprintf("%s n=%d cols=%d group=%d %v %v %v radius=%v", kind, n, o.Cols, o.Group, o.Levels, o.Rule, o.Format, w), func(c *call) {
		p, t := inout(c, params), tensor(c, n, o)
		a := backends.Step{Params: p, Delta: input(c, delta), Radius: w, Rule: o.Rule, Seed: o.Seed, Dst: &t}
		if c.failed(c.Backend.Step(c.Kernel, &a)) {
			record(&c.out, "parameter", p)
			return
		}
		record(&c.out, "norm", []float64{a.Norm})
		record(&c.out, "parameter", p)
		recordTensor(c, &t)
		if c.pure {
			threeOps(c, params, delta, &a, o)
		}
	})
}

// threeOps does what a step is with pure Go and says where a differs.
func threeOps(c *call, params, delta []float32, a *backends.Step, o quant.Options) {
	moved, want := make([]float32, len(params)), quant.Tensor{}
	constrain := backends.Constrain{X: delta, Dst: moved, Radius: a.Radius}
	if err := (cpu.Backend{}).Constrain(backends.Kernel{}, &constrain); err != nil {
		c.wrong("%v", err)
	}
	for i, v := range moved {
		moved[i] = params[i] + v
	}
	want.Resize(len(params)/o.Cols, o)
	if err := (cpu.Backend{}).Quantize(backends.Kernel{}, &backends.Quantize{X: moved, Rule: o.Rule, Seed: o.Seed, Dst: &want}); err != nil {
		c.wrong("%v", err)
	}
	if a.Norm != constrain.Norm || string(raw(moved)) != string(raw(a.Params)) || string(raw(want.Scales)) != string(raw(a.Dst.Scales)) ||
		string(raw(want.Codes)) != string(raw(a.Dst.Codes)) || string(want.Packed) != string(a.Dst.Packed) {
		c.wrong("a step is not constrain, add and quantize")
	}
}

// stepFails: a bad delta leaves the parameters; parameters that overflow are named, and all applied.
func (s *suite) stepFails(n int, o quant.Options) {
	o = o.WithDefaults(n)
	run := func(c *call, params, delta []float32, w float64) string {
		p, t := inout(c, params), tensor(c, n, o)
		c.failed(c.Backend.Step(c.Kernel, &backends.Step{Params: p, Delta: input(c, delta), Radius: w, Rule: o.Rule, Dst: &t}))
		record(&c.out, "parameter", p)
		return string(c.out.bytes[:c.out.parts[0].end])
	}
	params, delta, at := slices.Clone(s.data("normal", n)), slices.Clone(s.draw("normal", n, 7)), n/2
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
		x := slices.Clone(delta)
		x[at], x[n-1] = bad, bad
		s.compare(fmt.Sprintf("n=%d group=%d with %v at %d of delta", n, o.Group, bad, at), func(c *call) {
			if got, want := run(c, params, x, 1), fmt.Sprintf("%v: delta[%d] = %v", backends.ErrNonFinite, at, bad); got != want {
				c.wrong("the error is %q, and should be %q", got, want)
			}
			if string(c.out.bytes[c.out.parts[0].end:]) != string(raw(params)) {
				c.wrong("parameters changed although delta was bad")
			}
		})
	}
	delta[at], params[at] = 3e38, 3e38
	s.compare(fmt.Sprintf("n=%d group=%d with an overflow at %d", n, o.Group, at), func(c *call) {
		if got, want := run(c, params, delta, math.Inf(1)), fmt.Sprintf("%v: params[%d] = +Inf", backends.ErrNonFinite, at); got != want {
			c.wrong("the error is %q, and should be %q", got, want)
		}
	})
}

func (s *suite) randomStep(d *draws) {
	rows, cols := d.matrix()
	kind, delta := d.values(rows * cols)
	_, params := d.values(rows * cols)
	s.stepCase(kind, params, delta, d.radius(), d.options(cols))
}
