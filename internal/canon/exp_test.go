// SPDX-License-Identifier: Apache-2.0

package canon

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// bigExp is e^x in 300 bits: the Taylor series of e^(x/2^20), squared twenty times.
func bigExp(x float64) *big.Float {
	v := new(big.Float).SetPrec(300).SetFloat64(x)
	v.SetMantExp(v, -20)
	sum, term := big.NewFloat(1).SetPrec(300), big.NewFloat(1).SetPrec(300)
	for n := int64(1); n < 30; n++ {
		term.Mul(term, v)
		term.Quo(term, new(big.Float).SetPrec(300).SetInt64(n))
		sum.Add(sum, term)
	}
	for range 20 {
		sum.Mul(sum, sum)
	}
	return sum
}

// off is by how many units in the last place of the exact value's binade got is away from it. digits and least describe the format: 53 and −1074, or 24 and −149.
func off(got float64, exact *big.Float, digits, least int) float64 {
	unit := math.Ldexp(1, max(exact.MantExp(nil)-digits, least))
	d := new(big.Float).SetPrec(300).SetFloat64(got)
	f, _ := d.Sub(d, exact).Float64() // where unit is subnormal this difference may be too, and loses nothing that counts
	if f == 0 && d.Sign() != 0 {
		return 0
	}
	return math.Abs(f) / unit
}

func expInputs(r *rand.Rand, count int, low, high float64) []float64 {
	x := []float64{0, 1, -1, math.Ln2, -math.Ln2, math.Ln2 / 2, -math.Ln2 / 2, 0.5 * 3 * math.Ln2, low, high, 1e-300, -1e-300, 1e-9, -1e-9}
	for range count {
		x = append(x, low+(high-low)*r.Float64(), r.NormFloat64(), r.NormFloat64()*10, (r.Float64()-0.5)*math.Ln2, (float64(r.IntN(200)-100)+0.5)*math.Ln2+r.NormFloat64()*1e-12)
	}
	return x
}

func TestExpAgainstExactSeries(t *testing.T) {
	worst, at := 0.0, 0.0
	for _, x := range expInputs(rand.New(rand.NewPCG(1, 2)), 2000, -708, 709.7827) {
		if u := off(Exp(x), bigExp(x), 53, -1074); !(u <= worst) {
			worst, at = u, x
		}
	}
	t.Logf("largest error: %.3f ulp, at %v", worst, at)
	if !(worst < 1) {
		t.Errorf("exp(%v) is off by %.3f units in the last place", at, worst)
	}
	for x := -745.1; x < -708; x += 0.37 { // subnormal results
		if u := off(Exp(x), bigExp(x), 53, -1074); !(u < 1.5) {
			t.Errorf("exp(%v) = %v is off by %.3f units", x, Exp(x), u)
		}
	}
}

func TestExp32AgainstExactSeries(t *testing.T) {
	worst, at := 0.0, float32(0)
	for _, v := range expInputs(rand.New(rand.NewPCG(3, 4)), 4000, -103.9, 88.7) {
		x := float32(v)
		if u := off(float64(Exp32(x)), bigExp(float64(x)), 24, -149); !(u <= worst) {
			worst, at = u, x
		}
	}
	t.Logf("largest error: %.3f ulp, at %v", worst, at)
	if !(worst < 0.6) {
		t.Errorf("exp32(%v) is off by %.3f units in the last place", at, worst)
	}
}

// TestExpIsNearMathExp covers many more arguments than exact sums can.
func TestExpIsNearMathExp(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 300_000 {
		x := -700 + 1400*r.Float64()
		if u := ulps(Exp(x), math.Exp(x)); !(u <= 2) {
			t.Fatalf("exp(%v) = %v, math.Exp says %v", x, Exp(x), math.Exp(x))
		}
		y := float32(-87 + 175*r.Float64())
		if got, want := float64(Exp32(y)), math.Exp(float64(y)); math.Abs(got-want) > want*0x1.3p-24 {
			t.Fatalf("exp32(%v) = %v, math.Exp says %v", y, got, want)
		}
	}
}

// TestExp32NeverFallsWhereXRises checks all float32 values of an interval: softmax must not swap two scores.
func TestExp32NeverFallsWhereXRises(t *testing.T) {
	last := Exp32(-0.75)
	for x := float32(-0.75); x < -0.25; x = math.Nextafter32(x, 1) {
		y := Exp32(x)
		if y < last {
			t.Fatalf("exp32(%v) = %v is less than %v before it", x, y, last)
		}
		last = y
	}
}

// TestExpSumIsExp32 compares each value and the sum.
func TestExpSumIsExp32(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	x := []float32{float32(math.Inf(-1)), -1e30, -1000, -300, -250, 0, 1}
	for range 9000 {
		x = append(x, float32(r.NormFloat64()*20-3))
	}
	for _, n := range []int{1, 5, 16, 17, 31, 32, 33, 100, 4096, 4097, 8300} {
		got, want := append([]float32(nil), x[:n]...), make([]float64, n)
		sum := ExpSum(got, 0.375, 1)
		for i, v := range x[:n] {
			e := Exp32(0.375 * (v - 1))
			if want[i] = float64(e); got[i] != e {
				t.Fatalf("value %d: %v, Exp32 says %v", i, got[i], e)
			}
		}
		if s := Sum(want); sum != s {
			t.Errorf("%d values: sum %v, want %v", n, sum, s)
		}
	}
}

func TestExpOfTheSpecialValues(t *testing.T) {
	inf := math.Inf(1)
	if Exp(0) != 1 || Exp(-inf) != 0 || Exp(inf) != inf || !math.IsNaN(Exp(math.NaN())) || Exp(710) != inf || Exp(-746) != 0 || math.Abs(Exp(1)-math.E) > 0x1p-51 {
		t.Errorf("exp of 0, −∞, ∞, NaN, 710, −746, 1: %v %v %v %v %v %v %v", Exp(0), Exp(-inf), Exp(inf), Exp(math.NaN()), Exp(710), Exp(-746), Exp(1))
	}
	if math.IsInf(Exp(709.782712893384), 1) || Exp(-745.133) != math.SmallestNonzeroFloat64 {
		t.Errorf("exp at the ends of its range: %v, %v", Exp(709.782712893384), Exp(-745.133))
	}
	if i := float32(inf); Exp32(0) != 1 || Exp32(-i) != 0 || Exp32(i) != i || Exp32(float32(math.NaN())) == Exp32(float32(math.NaN())) || Exp32(90) != i || Exp32(-105) != 0 || Exp32(88.7228) == i || Exp32(88.7229) != i {
		t.Errorf("exp32 of 0, −∞, ∞, 90, −105, 88.7228, 88.7229: %v %v %v %v %v %v %v", Exp32(0), Exp32(-i), Exp32(i), Exp32(90), Exp32(-105), Exp32(88.7228), Exp32(88.7229))
	}
}

func BenchmarkExp(b *testing.B) {
	x, y := make([]float32, 4096), make([]float32, 4096)
	for i := range x {
		x[i] = -float32(i) / 256
	}
	for _, f := range []struct {
		name string
		exp  func() float64
	}{
		{"Exp", func() (s float64) {
			for _, v := range x {
				s += Exp(float64(v))
			}
			return s
		}},
		{"Exp32", func() (s float64) {
			for _, v := range x {
				s += float64(Exp32(v))
			}
			return s
		}},
		{"ExpSum", func() (s float64) {
			copy(y, x)
			return ExpSum(y, 1, 0)
		}},
		{"math.Exp", func() (s float64) {
			for _, v := range x {
				s += math.Exp(float64(v))
			}
			return s
		}},
	} {
		b.Run(f.name, func(b *testing.B) {
			for b.Loop() {
				f.exp()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(x)), "ns/value")
		})
	}
}
