// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"testing"

	"github.com/setun-compute/setun/quant"
)

// Sizes that are cut into parts for threads, and some that are written past the caches.
const (
	cutSize  = 300_007
	pastSize = 17_000_003 // 68 MB
)

func (s *suite) largeQuantize() {
	if testing.Short() {
		return
	}
	x := data("normal", cutSize, 3)
	for _, rule := range []quant.Rule{quant.AbsMean, quant.LeastSquares, quant.Stochastic} {
		for _, format := range []quant.Format{quant.Int8, quant.Bits2, quant.Base3} {
			for _, layout := range [][2]int{{cutSize, 0}, {cutSize, 128}, {cutSize, 100}, {cutSize, 70_000}, {cutSize, quant.PerRow}, {100_000, 77}, {70_001, 0}, {1000, quant.PerRow}, {37, 0}} {
				cols, group := layout[0], layout[1]
				s.quantizeCase("normal", x[:cutSize/cols*cols], quant.Options{Rule: rule, Format: format, Cols: cols, Group: group, Seed: 5})
			}
		}
	}
	x = data("normal", pastSize, 1)
	s.quantizeCase("normal", x, quant.Options{})
	s.quantizeCase("normal", x, quant.Options{Group: 128, Format: quant.Bits2})
}

func (s *suite) largeConstrain() {
	if testing.Short() {
		return
	}
	for _, n := range []int{cutSize, pastSize} {
		for _, radius := range []float64{1, 1e9} {
			s.constrainCase("normal", n, 1, radius, false)
		}
		s.constrainCase("normal", n, 1, 1, true)
	}
}
