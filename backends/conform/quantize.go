// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"fmt"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

func (s *suite) quantize() {
	for ni, n := range s.sizes() {
		for ki, kind := range half(ni) {
			x := s.data(kind, n)
			for _, levels := range []quant.Levels{quant.Ternary, quant.Quinary} {
				for rule := quant.AbsMean; rule <= quant.Stochastic; rule++ {
					for _, format := range []quant.Format{quant.Int8, quant.Bits2, quant.Base3} {
						for li, layout := range [][2]int{{n, 0}, {n, quant.PerRow}, {n, 64}, {n, 100}, {max(1, n/3), quant.PerRow}, {max(1, n/7), 5}, {1, 0}} {
							cols, group := layout[0], layout[1]
							if levels == quant.Quinary && format != quant.Int8 || group > cols || n > 10_000 && (cols < n || group != 0) || li > 1 && (ki+ni)%4 != 0 {
								continue
							}
							s.quantizeCase(kind, x[:n/cols*cols], quant.Options{Levels: levels, Rule: rule, Format: format, Cols: cols, Group: group, Seed: uint64(n)})
						}
					}
				}
			}
		}
		if n < 10_000 {
			s.nonFinite(n, func(c *call, x []float32) {
				o := quant.Options{}.WithDefaults(n)
				t := tensor(c, n, o)
				c.failed(c.Backend.Quantize(c.Kernel, &backends.Quantize{X: input(c, x), Rule: o.Rule, Dst: &t}))
			})
		}
	}
}

// tensor is a destination in watched memory for n values; options have their defaults.
func tensor(c *call, n int, o quant.Options) quant.Tensor {
	var sized quant.Tensor
	sized.Resize(n/o.Cols, o)
	t := sized
	t.Codes, t.Packed, t.Scales = output[int8](c, len(sized.Codes)), output[byte](c, len(sized.Packed)), output[float32](c, len(sized.Scales))
	return t
}

// recordTensor takes down a tensor.
func recordTensor(c *call, t *quant.Tensor) {
	record(&c.out, "scale", t.Scales)
	record(&c.out, "code", t.Codes)
	record(&c.out, "packed", t.Packed)
}

func (s *suite) quantizeCase(kind string, x []float32, o quant.Options) {
	o = o.WithDefaults(len(x))
	name := fmt.Sprintf("%s n=%d cols=%d group=%d %v %v %v", kind, len(x), o.Cols, o.Group, o.Levels, o.Rule, o.Format)
	s.compare(name, func(c *call) {
		t := tensor(c, len(x), o)
		if !c.failed(c.Backend.Quantize(c.Kernel, &backends.Quantize{X: input(c, x), Rule: o.Rule, Seed: o.Seed, Dst: &t})) {
			recordTensor(c, &t)
		}
	})
}

// Sizes that are cut into parts for threads, and some that are written past the caches.
const (
	cutSize  = 300_007
	pastSize = 17_000_003 // 68 MB
)

func (s *suite) largeQuantize() {
	x := s.data("normal", cutSize)
	for _, rule := range []quant.Rule{quant.AbsMean, quant.LeastSquares, quant.Stochastic} {
		for _, format := range []quant.Format{quant.Int8, quant.Bits2, quant.Base3} {
			for _, layout := range [][2]int{{cutSize, 0}, {cutSize, 128}, {cutSize, 100}, {cutSize, 70_000}, {cutSize, quant.PerRow}, {100_000, 77}, {70_001, 0}, {1000, quant.PerRow}, {37, 0}} {
				cols, group := layout[0], layout[1]
				s.quantizeCase("normal", x[:cutSize/cols*cols], quant.Options{Rule: rule, Format: format, Cols: cols, Group: group, Seed: 5})
			}
		}
	}
	x = s.data("normal", pastSize)
	s.quantizeCase("normal", x, quant.Options{})
	s.quantizeCase("normal", x, quant.Options{Group: 128, Format: quant.Bits2})
}

// options draws quantization options for rows of cols values.
func (d *draws) options(cols int) quant.Options {
	o := quant.Options{Levels: quant.Ternary, Rule: quant.Rule(d.upTo(int(quant.Stochastic))), Format: quant.Format(d.upTo(int(quant.Base3))), Cols: cols, Seed: uint64(d.upTo(1 << 15))}
	if d.upTo(2) == 0 {
		o.Levels, o.Format = quant.Quinary, quant.Int8
	}
	switch d.upTo(3) {
	case 0:
		o.Group = quant.PerRow
	case 1:
		o.Group = 1 + d.upTo(cols-1)
	}
	return o
}

func (s *suite) randomQuantize(d *draws) {
	rows, cols := d.matrix()
	kind, x := d.values(rows * cols)
	s.quantizeCase(kind, x, d.options(cols))
}
