// SPDX-License-Identifier: Apache-2.0

package canon_test

import (
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/internal/hwfma"
)

// allVariable asks for all triples, 2^28 random ones and the whole of the structured ones: some ten seconds instead of one.
const allVariable = "SETUN_FMA_ALL"

// batch collects triples and compares the emulation with the instruction.
type batch struct {
	t       *testing.T
	a, b, c []float32
	n       int // compared so far
	special struct{ subnormal, infinite, midpoint int }
}

const batchSize = 4096

func (x *batch) add(a, b, c float32) {
	x.a, x.b, x.c = append(x.a, a), append(x.b, b), append(x.c, c)
	if len(x.a) == batchSize {
		x.compare()
	}
}

func (x *batch) compare() {
	var want [batchSize]float32
	for len(x.a)%hwfma.Width != 0 {
		x.a, x.b, x.c = append(x.a, 0), append(x.b, 0), append(x.c, 0)
	}
	hwfma.FMA(want[:len(x.a)], x.a, x.b, x.c)
	for i, w := range want[:len(x.a)] {
		got := canon.FMA32(x.a[i], x.b[i], x.c[i])
		if math.Float32bits(got) != math.Float32bits(w) && (got == got || w == w) {
			x.t.Errorf("fma(%b, %b, %b) = %b, the processor says %b", x.a[i], x.b[i], x.c[i], got, w)
		}
		if w != 0 && w < 0x1p-126 && w > -0x1p-126 {
			x.special.subnormal++
		}
		if math.IsInf(float64(w), 0) {
			x.special.infinite++
		}
		if s := math.Float64bits(float64(x.a[i])*float64(x.b[i]) + float64(x.c[i])); s&0x1fffffff == 0x10000000 {
			x.special.midpoint++ // the float64 sum lies halfway between two float32 values
		}
	}
	x.n += len(x.a)
	x.a, x.b, x.c = x.a[:0], x.b[:0], x.c[:0]
	if x.t.Failed() {
		x.t.FailNow()
	}
}

func TestFMA32IsTheInstruction(t *testing.T) {
	if !hwfma.Available() {
		t.Skip("this processor has no fused multiply-add")
	}
	random, fine := 1<<22, 4
	if os.Getenv(allVariable) != "" {
		random, fine = 1<<28, 1
	}
	t.Run("random", func(t *testing.T) {
		workers := runtime.GOMAXPROCS(0)
		var all sync.WaitGroup
		var counting sync.Mutex
		total := 0
		for w := range workers {
			all.Go(func() {
				r, x := rand.New(rand.NewPCG(11, uint64(w))), &batch{t: t}
				for range random/workers + 1 {
					u, v := r.Uint64(), r.Uint32()
					a, b, c := math.Float32frombits(uint32(u)), math.Float32frombits(uint32(u>>32)), math.Float32frombits(v)
					if v&3 == 0 { // any bits seldom meet: bring the addend near the product
						c = math.Float32frombits(math.Float32bits(a*b) ^ 1<<31 ^ v>>8&0xff)
					}
					x.add(a, b, c)
				}
				x.compare()
				counting.Lock()
				total += x.n
				counting.Unlock()
			})
		}
		all.Wait()
		if total < random {
			t.Fatalf("%d triples", total)
		}
		t.Logf("%d triples", total)
	})
	t.Run("structured", func(t *testing.T) {
		x := &batch{t: t}
		corners(x, fine)
		halfway(x, fine)
		x.compare()
		t.Logf("%d triples; results: %d subnormal, %d infinite, %d with a float64 sum halfway between two float32 values", x.n, x.special.subnormal, x.special.infinite, x.special.midpoint)
		if x.special.subnormal < 10_000 || x.special.infinite < 1000 || x.special.midpoint < 100_000 {
			t.Error("too few of a kind: the structure does not do what it is for")
		}
	})
}

// corners takes all triples of values at which something begins or ends: ±0, the ends of the subnormal range, powers of two and their neighbours, the greatest,
// infinities, NaN.
func corners(x *batch, fine int) {
	var values []float32
	for _, e := range []int{-149, -148, -140, -127, -126, -125, -100, -76, -75, -74, -64, -63, -62, -25, -24, -23, -13, -12, -1, 0, 1, 11, 12, 23, 24, 63, 64, 100, 103, 104, 126, 127} {
		p := float32(math.Ldexp(1, e))
		values = append(values, p, math.Nextafter32(p, 0), math.Nextafter32(p, float32(math.Inf(1))), float32(1.5*float64(p)))
	}
	values = append(values, 0, math.MaxFloat32, float32(math.Inf(1)), float32(math.NaN()))
	for i, n := 0, len(values); i < n; i++ {
		values = append(values, -values[i])
	}
	for i, a := range values {
		for j := i % fine; j < len(values); j += fine {
			for k := j / fine % fine; k < len(values); k += fine {
				x.add(a, values[j], values[k])
			}
		}
	}
}

// halfway makes exact sums in the middle between two float32 values, and a hair to either side: an addend of 24 bits, and a product that is an odd number of halves of its last unit. Both
// factors are then stretched by one unit each, which moves the sum by less than float64 can tell. Over all binades, into the subnormal range and over the top.
func halfway(x *batch, fine int) {
	r := rand.New(rand.NewPCG(12, 13))
	for e := -149; e <= 127; e++ { // the binade of the addend
		unit := max(e-23, -149) // exponent of its last unit
		for range 60_000 / fine / fine {
			c := math.Ldexp(float64(1<<23|r.IntN(1<<23)), unit)
			if e < -126 {
				c = math.Ldexp(float64(r.IntN(1<<(e+150))), unit)
			}
			u, v := 2*r.IntN(1<<r.IntN(8))+1, 2*r.IntN(1<<r.IntN(8))+1
			shift := r.IntN(60) - 30
			low := unit - 1 - shift // exponents of the factors: together one below the addend's last unit
			if low < -140 || low > 100 || shift < -140 {
				low, shift = (unit-1)/2, unit-1-(unit-1)/2
			}
			a, b := float32(math.Ldexp(float64(u), low)), float32(math.Ldexp(float64(v), shift))
			if r.IntN(2) == 0 {
				a = -a
			}
			if r.IntN(2) == 0 {
				c = -c
			}
			inf := float32(math.Inf(1))
			for _, s := range []float32{a, math.Nextafter32(a, inf), math.Nextafter32(a, -inf)} {
				x.add(s, b, float32(c))
				x.add(b, s, float32(-c))
				x.add(s, math.Nextafter32(b, inf), float32(c))
			}
		}
	}
}
