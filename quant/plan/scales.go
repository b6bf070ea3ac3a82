// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"github.com/setun-compute/setun/internal/floats"
	"github.com/setun-compute/setun/quant"
)

// RoundScales rounds the scales of t, a tensor of Int8 codes made from x by a rule, to binary16, and chooses the codes again for the scales that are stored, so that what is read back is what was measured. Codes do not depend
// on the scale where the levels are Sparse or the rule is Magnitude, and a Stochastic code was drawn: those stay.
//
// A scale that binary16 holds with fewer than 11 bits, below 2^-14 or from 65,520 on, stays as it is unless always is set; then it becomes what [floats.ToHalf] makes of it, 0 or infinity included. It returns how many
// scales are no binary16 now.
func RoundScales(t *quant.Tensor, x []float32, rule quant.Rule, always bool) (wide int) {
	group := t.Group
	if group == 0 {
		group = t.Cols
	}
	again := t.Levels != quant.Sparse && rule != quant.Magnitude && rule != quant.Stochastic
	at := 0
	for r := range t.Rows {
		for c := 0; c < t.Cols; c += group {
			s := t.Scales[at]
			if h := floats.Half(floats.ToHalf(s)); h != s {
				if !always && (s < 0x1p-14 || s >= 65520) {
					wide++
				} else {
					s = h
				}
			}
			if again {
				i := r * t.Cols
				Codes(t.Codes[i+c:i+min(c+group, t.Cols)], x[i+c:i+min(c+group, t.Cols)], s, t.Levels)
			}
			if t.Group > 0 || r == t.Rows-1 && c+group >= t.Cols {
				t.Scales[at] = s
			}
			if t.Group > 0 {
				at++
			}
		}
	}
	if t.Group == 0 {
		return min(wide, 1)
	}
	return wide
}

// Codes chooses ternary or quinary codes for a scale, as docs/numerics.md has it: ties go to the smaller magnitude. dst and x have one length.
func Codes(dst []int8, x []float32, s float32, l quant.Levels) {
	dst = dst[:len(x)]
	if l == quant.Quinary {
		low, high := s/4, 0.75*s
		for i, v := range x {
			c := int8(0)
			if a := max(v, -v); a > high {
				c = 2
			} else if a > low {
				c = 1
			}
			if v < 0 {
				c = -c
			}
			dst[i] = c
		}
		return
	}
	half := s / 2
	for i, v := range x {
		var plus, minus int8 // two comparisons without a branch, because codes cannot be predicted
		if v > half {
			plus = 1
		}
		if v < -half {
			minus = 1
		}
		dst[i] = plus - minus
	}
}
