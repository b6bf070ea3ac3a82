// SPDX-License-Identifier: Apache-2.0

package canon

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// ulps is how many units of want's last place got is away.
func ulps(got, want float64) float64 {
	if got == want {
		return 0
	}
	return math.Abs(got-want) / (math.Nextafter(math.Abs(want), math.Inf(1)) - math.Abs(want))
}

func TestLogIsNearMathLog(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	worst, at := 0.0, 0.0
	try := func(x float64) {
		if x < 0x1p-1022 { // math.Log is wrong there on amd64
			return
		}
		if u := ulps(Log(x), math.Log(x)); u > worst || u != u {
			worst, at = u, x
		}
	}
	for range 300_000 {
		try(math.Float64frombits((r.Uint64() >> 1) % 0x7ff0000000000000))
		try(math.Exp(r.NormFloat64()))
		try(1 + math.Ldexp(r.NormFloat64(), -r.IntN(50)-4))
	}
	for k := -1022; k < 1024; k++ {
		p := math.Ldexp(1, k)
		try(p)
		try(math.Nextafter(p, 0))
		try(math.Nextafter(p, math.Inf(1)))
		try(p * math.Sqrt2)
	}
	if !(worst <= 2) {
		t.Errorf("log(%b) is off by %.2f units in the last place", at, worst)
	}
	t.Logf("largest difference from math.Log: %.2f ulp, at %v", worst, at)
}

// TestLogAgainstExactSeries holds Log against 2·atanh(s) summed in 200 bits, near 1, where the relative error is hardest.
func TestLogAgainstExactSeries(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 2000 {
		x := 0.72 + 0.68*r.Float64()
		one := big.NewFloat(1).SetPrec(200)
		bx := new(big.Float).SetPrec(200).SetFloat64(x)
		s := new(big.Float).Quo(new(big.Float).Sub(bx, one), new(big.Float).Add(bx, one))
		z, term, sum := new(big.Float).Mul(s, s), new(big.Float).Set(s), new(big.Float).SetPrec(200)
		for n := int64(1); n < 90; n += 2 {
			sum.Add(sum, new(big.Float).Quo(term, new(big.Float).SetPrec(200).SetInt64(n)))
			term.Mul(term, z)
		}
		want, _ := sum.Mul(sum, big.NewFloat(2)).Float64()
		if u := ulps(Log(x), want); u > 1.5 {
			t.Errorf("log(%v) = %v is off by %.2f units in the last place from %v", x, Log(x), u, want)
		}
	}
}

func TestLogOfTheSpecialValues(t *testing.T) {
	inf := math.Inf(1)
	if Log(0) != -inf || Log(inf) != inf || Log(1) != 0 || !math.IsNaN(Log(-1)) || !math.IsNaN(Log(math.NaN())) {
		t.Errorf("log of 0, ∞, 1, −1, NaN: %v %v %v %v %v", Log(0), Log(inf), Log(1), Log(-1), Log(math.NaN()))
	}
	if got := Log(math.SmallestNonzeroFloat64); ulps(got, -744.4400719213812) > 1 {
		t.Errorf("log of the smallest float64: %v", got)
	}
}
