// SPDX-License-Identifier: Apache-2.0

// Package floats converts the two 16-bit float formats of model files, IEEE 754 binary16 ("half", F16) and bfloat16 (the upper half of a
// binary32, BF16), to float32 and back.
//
// Widening is exact. Narrowing rounds to the nearest value, ties to even, whatever the processor's rounding mode is: it is done in integers.
package floats

import "math"

// Half widens a binary16; every one is a float32. The payload of a NaN is kept.
func Half(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch exponent {
	case 0: // zero or subnormal
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)*0x1p-24))
	case 31: // infinity or NaN
		return math.Float32frombits(sign | 255<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

// ToHalf narrows x to the nearest binary16, ties to even. From 65520 on that is infinity, up to 2^-25 it is zero. A NaN stays one, quiet, with its
// sign and the upper bits of its payload.
func ToHalf(x float32) uint16 {
	const (
		infinity = 255 << 23
		overflow = (127+16)<<23 - 1<<12 // 65520: half way between the largest binary16 and 2^16, the even one
		normal   = (127 - 14) << 23     // 2^-14
	)
	bits := math.Float32bits(x)
	sign, m := uint16(bits>>16)&0x8000, bits&^(1<<31)
	switch {
	case m > infinity:
		return sign | 0x7e00 | uint16(m>>13)&0x1ff
	case m >= overflow:
		return sign | 0x7c00
	case m >= normal:
		return sign | uint16((m-(127-15)<<23+1<<12-1+m>>13&1)>>13) // a carry out of the fraction raises the exponent, as it should
	}
	// The result counts units of 2^-24. x is significand·2^(exponent−150), so shift is what parts the two.
	exponent := m >> 23
	shift := 126 - exponent
	if shift > 25 { // below 2^-25, float32 subnormals included
		return sign
	}
	significand := m&(1<<23-1) | 1<<23
	whole, rest, tie := significand>>shift, significand&(1<<shift-1), uint32(1)<<(shift-1)
	if rest > tie || rest == tie && whole&1 == 1 {
		whole++
	}
	return sign | uint16(whole)
}

// BFloat widens a bfloat16; every one is a float32.
func BFloat(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// ToBFloat narrows x to the nearest bfloat16, ties to even. Beyond the largest that is infinity. A NaN stays one, quiet, with its sign and the upper
// bits of its payload.
func ToBFloat(x float32) uint16 {
	bits := math.Float32bits(x)
	if bits&^(1<<31) > 255<<23 {
		return uint16(bits>>16) | 64
	}
	return uint16((bits + 1<<15 - 1 + bits>>16&1) >> 16)
}
