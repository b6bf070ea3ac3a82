// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"math"
	"math/rand/v2"

	"github.com/setun-compute/setun/internal/canon"
)

// The kinds of data. The first four are distributions; the others hurt.
var kinds = []string{
	"normal", "uniform", "laplace", "heavy", // heavy tails: a normal value over a uniform one
	"wide",      // huge and tiny mixed
	"huge",      // up to the greatest there is
	"subnormal", // and the smallest normal ones
	"few",       // five values: ties with thresholds and between centroids
	"threshold", // mean of magnitudes 1, values at ½ and 3/2 of it and one unit beside
	"cancel",    // every value with nearly its opposite
	"equal",     // one value
	"zero",      // of either sign
}

// lengths are where lanes, chunks and packed blocks begin and end.
var lengths = []int{1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 128, 129, 255, 256, 257, 319, 320, 321, 1279, 1280, 1281,
	4095, 4096, 4097, 5119, 5120, 5121, 8191, 8192, 8193, 40_009, 100_003}

// sizes are the lengths, or some of them in a short run.
func (s *suite) sizes() []int {
	if s.o.Short {
		return []int{1, 33, 321, 4097}
	}
	return lengths
}

// half are the kinds with every other number, one half or the other: with two neighbouring sizes all of them come up.
func half(turn int) []string {
	var list []string
	for i, kind := range kinds {
		if (i+turn)%2 == 0 {
			list = append(list, kind)
		}
	}
	return list
}

// data returns n values of a kind, always the same. The caller must not change them.
func (s *suite) data(kind string, n int) []float32 { return s.draw(kind, n, uint64(n)) }

// draw returns n values of a kind for a seed; they are remembered while there are few.
func (s *suite) draw(kind string, n int, seed uint64) []float32 {
	key := string(raw([]uint64{seed, uint64(n)})) + kind
	if v, ok := s.values[key]; ok {
		return v
	}
	v := make([]float32, n)
	fill(v, kind, rand.New(rand.NewPCG(seed, uint64(len(kind)))))
	if len(s.values) > 2000 {
		clear(s.values)
	}
	if n <= 1<<17 {
		s.values[key] = v
	}
	return v
}

// fill makes values of a kind. It needs neither the processor's nor the library's functions, which differ between machines in the last bit.
func fill(x []float32, kind string, r *rand.Rand) {
	one := 0.25 + r.Float64()
	for i := range x {
		v := 0.0
		switch kind {
		case "normal":
			v = normal(r)
		case "uniform":
			v = 2*r.Float64() - 1
		case "laplace":
			v = sign(r) * -canon.Log(1-r.Float64())
		case "heavy":
			v = normal(r) / (r.Float64() + 0x1p-20)
		case "wide":
			v = math.Ldexp(normal(r), r.IntN(200)-100)
		case "huge":
			v = math.MaxFloat32 * (2*r.Float64() - 1)
		case "subnormal":
			v = float64(math.Float32frombits(r.Uint32()&0x807fffff | uint32(r.IntN(2))<<23))
		case "few":
			v = float64(r.IntN(5)-2) / 2
		case "threshold":
			v = sign(r) * (0.5 + float64(i%2) + float64(1-2*(i%2))*float64(i/2%3-1)*0x1p-23)
		case "cancel":
			if v = 1000 * normal(r); i%2 == 1 {
				v = -float64(x[i-1]) + float64(0x1p-20*normal(r))
			}
		case "equal":
			v = one
		case "zero":
			v = math.Copysign(0, sign(r))
		}
		x[i] = float32(v)
	}
}

func sign(r *rand.Rand) float64 { return float64(int(r.Uint32()&1))*2 - 1 }

// normal is nearly so: the sum of twelve uniform values (Irwin and Hall), then stretched by up to an eighth so that all bits of the significand are used.
func normal(r *rand.Rand) float64 {
	sum := 0
	for range 3 {
		for u, k := r.Uint64(), 0; k < 4; k++ {
			sum += int(u & 0xffff)
			u >>= 16
		}
	}
	return (float64(sum) - 12*32767.5) / 65536 * (1 + float64(r.Uint32())*0x1p-35)
}
