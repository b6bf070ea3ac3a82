// SPDX-License-Identifier: Apache-2.0

package canon

import "math"

// ln 2 in two parts: the high one has 21 trailing zero bits, so that its product with a float64's exponent is exact.
const (
	ln2High = 0x1.62e42feep-1
	ln2Low  = 0x1.a39ef35793c76p-33
)

// inverseOdd are 1/23, 1/21, …, 1/3: the series of atanh(s)/s in s², highest power first, without its first term 1.
var inverseOdd = [...]float64{1. / 23, 1. / 21, 1. / 19, 1. / 17, 1. / 15, 1. / 13, 1. / 11, 1. / 9, 1. / 7, 1. / 5, 1. / 3}

// Log returns the natural logarithm of x with the same bits on every machine: + − × ÷ only, no product fused into a sum. math.Log differs between
// architectures by a last bit, which is enough to change a choice. The error is below 2 units in the last place.
//
// x = 2^k·m with m in [√½, √2); ln m = 2·atanh(s), s = (m−1)/(m+1), |s| < 0.1716, by eleven more terms of the series, whose remainder is below 2^-64·|s|.
// Log of 0 is −Inf, of a negative number NaN; +Inf and NaN stay.
func Log(x float64) float64 {
	switch {
	case x == 0:
		return math.Inf(-1)
	case !(x > 0):
		return math.NaN()
	case math.IsInf(x, 1):
		return x
	}
	m, k := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m *= 2
		k--
	}
	f := m - 1 // exact
	s := f / (2 + f)
	z := float64(s * s)
	r := 0.0
	for _, c := range inverseOdd {
		r = float64((r + c) * z)
	}
	// 2·atanh(s) = 2s + 2s·r, and 2s = f − s·f: the large part f is exact.
	low := float64(s*float64(f-2*r)) - float64(float64(k)*ln2Low)
	return float64(float64(k)*ln2High) - (low - f)
}
