// SPDX-License-Identifier: Apache-2.0

package canon

import "math"

const (
	inverseLn2 = 1.4426950408889634
	// roundMagic added to a float64 below 2^51 rounds it to an integer, ties to even, which then stands in the low bits of the sum.
	roundMagic = 0x1.8p52
)

// Exp returns e^x with the same bits on every machine: + − × only, no product fused into a sum. math.Exp differs between architectures by a last bit.
// The error is below 1 unit in the last place for normal results and below 1.5 for subnormal ones, which are rounded twice.
//
// x = k·ln 2 + r with |r| ≤ ½ln 2, ln 2 in two parts of which k times the high one is exact; e^r by its Taylor series up to r^13, whose remainder is below 2^-57.
// Exp of −Inf is 0, of +Inf +Inf, of a NaN a NaN.
func Exp(x float64) float64 {
	switch {
	case x != x:
		return x
	case x > 709.782712893384: // e^x is above the greatest float64
		return math.Inf(1)
	case x < -745.1332191019412: // below half of the smallest one
		return 0
	}
	t := float64(x*inverseLn2) + roundMagic
	k := int(int32(math.Float64bits(t)))
	n := t - roundMagic
	high, low := x-float64(n*ln2High), float64(n*ln2Low)
	r := high - low
	lost := (high - r) - low // what the rounding of r left out
	p := 1. / 6227020800
	p = float64(p*r) + 1./479001600
	p = float64(p*r) + 1./39916800
	p = float64(p*r) + 1./3628800
	p = float64(p*r) + 1./362880
	p = float64(p*r) + 1./40320
	p = float64(p*r) + 1./5040
	p = float64(p*r) + 1./720
	p = float64(p*r) + 1./120
	p = float64(p*r) + 1./24
	p = float64(p*r) + 1./6
	p = float64(p*r) + 0.5
	y := 1 + (r + (float64(float64(r*r)*p) + lost))
	// Two factors: 2^k itself may be no float64, e^x still be one. The first product is exact.
	half := k >> 1
	return y * power(half) * power(k-half)
}

// Exp32 returns e^x rounded to float32, with the same bits on every machine, for softmax and the like, where it is called a hundred times as often as Exp. It is computed in float64: x = k·ln 2 + r, |r| ≤ ½ln 2,
// the Taylor series up to r^7 with a relative remainder below 2^-27, so that the error is below 0.6 units in the last place. Exp32 of 0 is exactly 1. It is 0 below −104 and +Inf above 88.73.
func Exp32(x float32) float32 {
	if !(x >= -104 && x <= 89) {
		return outside32(x)
	}
	return float32(series32(float64(x)))
}

// series32 is e^x in float64 for an x of Exp32 that is in range. It is small enough to be compiled into its callers.
func series32(x float64) float64 {
	t := float64(x*inverseLn2) + (roundMagic + 1023) // with the bias of exponents, so that a shift makes 2^k
	r := x - float64((t-(roundMagic+1023))*math.Ln2)
	s := r * r // feeds products alone
	// Pairs of terms, so that the processor has more than one chain of operations to work on.
	return (1 + r + float64(s*((0.5+float64(r*(1./6)))+float64(s*((1./24+float64(r*(1./120)))+float64(s*((r+7)*(1./5040)))))))) * math.Float64frombits(math.Float64bits(t)<<52)
}

// ExpSum replaces each x by Exp32(scale·(x − offset)), difference and product rounded to float32, and returns S of the results: what softmax needs, without a call for each value.
func ExpSum(x []float32, scale, offset float32) float64 {
	if len(x) <= Chunk {
		return chunkExpSum(x, scale, offset)
	}
	return overChunks(len(x), func(b, e int) float64 { return chunkExpSum(x[b:e], scale, offset) })
}

func chunkExpSum(x []float32, scale, offset float32) float64 {
	var t [32]float64
	for i, v := range x {
		v = scale * (v - offset)
		var e float32
		if v >= -104 && v <= 89 {
			e = float32(series32(float64(v)))
		} else {
			e = outside32(v)
		}
		x[i] = e
		t[i%32] += float64(e)
	}
	return foldFew(&t, len(x))
}

// outside32 is Exp32 where the result is 0, an infinity or a NaN.
func outside32(x float32) float32 {
	switch {
	case x < 0:
		return 0
	case x > 0:
		return float32(math.Inf(1))
	}
	return x
}

// power is 2^k for k in [−1022, 1023].
func power(k int) float64 { return math.Float64frombits(uint64(k+1023) << 52) }
