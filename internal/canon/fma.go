// SPDX-License-Identifier: Apache-2.0

package canon

import "math"

// FMA32 returns the float32 fused multiply-add a*b + c: the exact result, rounded once. NaN payloads aside it equals the
// hardware instruction.
//
// The product is exact in float64. The sum is rounded to float64 and then to float32, which differs from one rounding only if
// the float64 sum lies halfway between two float32 values (low 29 bits 0x10000000) or in float32's subnormal range.
func FMA32(a, b, c float32) float32 {
	p := float64(a) * float64(b)
	s := p + float64(c)
	u := math.Float64bits(s)
	if u&0x1fffffff == 0x10000000 || u&(1<<63-1) < 0x3820000000000000 {
		return FMARound(p, float64(c), s)
	}
	return float32(s)
}

// FMARound rounds p + c, whose float64 sum is s, to float32 as if at once: it first rounds to odd by the exact error of
// the addition (Boldo and Melquiond, 2008).
//
//go:noinline
func FMARound(p, c, s float64) float32 {
	if s-s != 0 {
		return float32(s)
	}
	t := s - p
	e := (p - (s - t)) + (c - t)
	if u := math.Float64bits(s); e != 0 && u&1 == 0 {
		if (e > 0) == (s > 0) {
			u++
		} else {
			u--
		}
		s = math.Float64frombits(u)
	}
	return float32(s)
}
