// SPDX-License-Identifier: Apache-2.0

package canon

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// sumByRule is the rule S of docs/numerics.md, word for word.
func sumByRule(v []float64) float64 {
	for {
		var sums []float64
		for i := 0; i < len(v); i += 4096 {
			var lane [32]float64
			for j, x := range v[i:min(i+4096, len(v))] {
				lane[j%32] += x
			}
			for w := 16; w >= 1; w /= 2 {
				for l := 0; l < w; l++ {
					lane[l] += lane[l+w]
				}
			}
			sums = append(sums, lane[0])
		}
		if len(sums) == 0 {
			return 0
		}
		if len(sums) == 1 {
			return sums[0]
		}
		v = sums
	}
}

func TestSumFollowsTheRule(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 31, 32, 33, 4095, 4096, 4097, 8192, 100_003, 4096*4096 + 5000} {
		v := make([]float64, n)
		for i := range v {
			v[i] = math.Ldexp(r.NormFloat64(), r.IntN(60)-30)
		}
		if got, want := Sum(v), sumByRule(v); got != want {
			t.Errorf("n = %d: %v, the rule gives %v", n, got, want)
		}
	}
}

func TestDotAndAbsFollowTheRule(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{1, 31, 32, 33, 64, 4095, 4096} {
		x, y, p, a := make([]float32, n), make([]float32, n), make([]float64, n), make([]float64, n)
		for i := range x {
			x[i], y[i] = float32(r.NormFloat64()), float32(r.NormFloat64())
			p[i] = float64(x[i]) * float64(y[i])
			x[i] = float32(r.IntN(2000) - 1000) // small integers: float32 lanes are exact, so the rule over float64 must agree
			p[i] = float64(x[i]) * float64(y[i])
			a[i] = math.Abs(float64(x[i]))
		}
		if got, want := ChunkDot(x, y), sumByRule(p); got != want {
			t.Errorf("dot n = %d: %v, the rule gives %v", n, got, want)
		}
		if got, want := ChunkAbs(x), sumByRule(a); got != want {
			t.Errorf("abs n = %d: %v, the rule gives %v", n, got, want)
		}
	}
}

func TestChunkAbsLanesAreFloat32(t *testing.T) {
	x := make([]float32, 4096)
	for i := range x {
		x[i] = 0.1
	}
	var lane float32
	for range 128 {
		lane += 0.1
	}
	if got, want := ChunkAbs(x), 32*float64(lane); got != want {
		t.Errorf("%v, 32 float32 lanes give %v", got, want)
	}
	for i := range x {
		x[i] = -math.MaxFloat32 // overflows a float32 lane: the chunk is done again in float64
	}
	if got, want := ChunkAbs(x), 4096*float64(math.MaxFloat32); got != want {
		t.Errorf("huge values: %v, want %v", got, want)
	}
	x[77] = float32(math.NaN())
	if got := ChunkAbs(x); got-got == 0 {
		t.Errorf("a NaN gave the finite sum %v", got)
	}
}

// exactFMA rounds a*b + c once, by arbitrary precision.
func exactFMA(a, b, c float32) float32 {
	p := new(big.Float).SetPrec(2000).Mul(big.NewFloat(float64(a)), big.NewFloat(float64(b)))
	s := p.Add(p, big.NewFloat(float64(c)))
	f, _ := s.Float32()
	if f == 0 && s.Sign() == 0 { // big.Float has its own rule for the sign of an exact zero
		return float32(float64(a)*float64(b) + float64(c))
	}
	return f
}

func TestFMA32IsRoundedOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	any32 := func() float32 {
		for {
			if f := math.Float32frombits(r.Uint32()); f-f == 0 {
				return f
			}
		}
	}
	cases := 0
	check := func(a, b, c float32) {
		if c-c != 0 {
			c = 0
		}
		got := FMA32(a, b, c)
		if want := exactFMA(a, b, c); math.Float32bits(got) != math.Float32bits(want) {
			t.Fatalf("fma(%b, %b, %b) = %b, want %b", a, b, c, got, want)
		}
		cases++
	}
	for range 100_000 {
		check(any32(), any32(), any32())
		// The addend near the product, few bits set: halfway cases and cancellation.
		a := math.Float32frombits(r.Uint32() & 0xbf8ff000)
		b := math.Float32frombits(r.Uint32()&0xbff00000 | 1)
		check(a, b, math.Float32frombits(math.Float32bits(-a*b)+uint32(r.IntN(5))-2))
		// Subnormal results.
		s := math.Ldexp(1, -70-r.IntN(10))
		check(float32(s*r.Float64()), float32(s*r.NormFloat64()), math.Float32frombits(r.Uint32()&0x80ffffff))
	}
	if cases != 300_000 {
		t.Fatalf("%d cases ran", cases)
	}
}

func TestPhiloxKnownAnswers(t *testing.T) { // Random123's kat_vectors for philox4x32-10
	if got, want := philox(0, 0, 0), [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}; got != want {
		t.Errorf("%08x, want %08x", got, want)
	}
}

func TestChooseStaysInRange(t *testing.T) {
	for n := uint64(1); n < 50; n++ {
		for i := range uint64(100) {
			if v := Choose(7, i, n); v >= n {
				t.Fatalf("Choose(7, %d, %d) = %d", i, n, v)
			}
		}
	}
}
