// SPDX-License-Identifier: Apache-2.0

package floats

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// value computes a 16-bit float from its fields in float64, which holds all of them exactly.
func value(h uint16, fractionBits, bias int) float64 {
	sign := 1 - 2*float64(h>>15)
	exponentBits := 15 - fractionBits
	e, f := int(h>>fractionBits)&(1<<exponentBits-1), float64(h&(1<<fractionBits-1))
	switch {
	case e == 1<<exponentBits-1 && f != 0:
		return math.NaN()
	case e == 1<<exponentBits-1:
		return math.Inf(int(sign))
	case e == 0:
		return math.Copysign(math.Ldexp(f, 1-bias-fractionBits), sign)
	}
	return sign * math.Ldexp(1+math.Ldexp(f, -fractionBits), e-bias)
}

var formats = []struct {
	name               string
	fractionBits, bias int
	widen              func(uint16) float32
	narrow             func(float32) uint16
}{
	{"binary16", 10, 15, Half, ToHalf},
	{"bfloat16", 7, 127, BFloat, ToBFloat},
}

// TestEveryValue widens all 65536 values and narrows them again.
func TestEveryValue(t *testing.T) {
	for _, f := range formats {
		for i := range 1 << 16 {
			h := uint16(i)
			wide, want := f.widen(h), value(h, f.fractionBits, f.bias)
			if want != want {
				back := f.narrow(wide)
				if wide == wide || back != h|1<<(f.fractionBits-1) {
					t.Fatalf("%s %#04x: %v, back %#04x; want a NaN that comes back quiet", f.name, h, wide, back)
				}
				continue
			}
			if math.Float64bits(float64(wide)) != math.Float64bits(want) || f.narrow(wide) != h {
				t.Fatalf("%s %#04x: %v, back %#04x; want %v", f.name, h, wide, f.narrow(wide), want)
			}
		}
	}
}

// TestTies looks at every gap between two neighbours: the middle goes to the even one, what is just beside it to the nearer one.
func TestTies(t *testing.T) {
	for _, f := range formats {
		largest := uint16(1<<15-1)&^(1<<f.fractionBits-1) - 1
		for h := range largest + 1 {
			low, high := value(h, f.fractionBits, f.bias), value(h+1, f.fractionBits, f.bias)
			if h == largest { // infinity begins where the next value would
				high = low + (low - value(h-1, f.fractionBits, f.bias))
			}
			even := h + h&1
			middle := float32((low + high) / 2)
			if float64(middle) != (low+high)/2 {
				t.Fatalf("%s %#04x: the middle is no float32", f.name, h)
			}
			below, above := math.Nextafter32(middle, 0), math.Nextafter32(middle, math.MaxFloat32)
			for _, c := range []struct {
				x    float32
				want uint16
			}{{below, h}, {middle, even}, {above, h + 1}} {
				if got := f.narrow(c.x); got != c.want {
					t.Fatalf("%s: %v became %#04x, want %#04x", f.name, c.x, got, c.want)
				}
				if got := f.narrow(-c.x); got != c.want|1<<15 {
					t.Fatalf("%s: %v became %#04x, want %#04x", f.name, -c.x, got, c.want|1<<15)
				}
			}
		}
	}
}

// TestNearest compares random float32 bit patterns with both neighbours of the result.
func TestNearest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300_000 {
		x := math.Float32frombits(r.Uint32())
		if x != x {
			continue
		}
		for _, f := range formats {
			h := f.narrow(x)
			got := float64(f.widen(h))
			if math.IsInf(got, 0) || math.Signbit(got) != math.Signbit(float64(x)) {
				if limit := float64(f.widen(0x7fff&^(1<<f.fractionBits-1) - 1)); math.Abs(float64(x)) <= limit {
					t.Fatalf("%s: %v became %v", f.name, x, got)
				}
				continue
			}
			for _, n := range []uint16{h - 1, h + 1} {
				if near := float64(f.widen(n)); math.Abs(near-float64(x)) < math.Abs(got-float64(x)) {
					t.Fatalf("%s: %v became %v, %v is nearer", f.name, x, got, near)
				}
			}
		}
	}
}

func TestBytes(t *testing.T) {
	values := []float32{0, 1, -2.5, 0x1p-14, 65504}
	wide, half, bfloat := []byte{}, []byte{}, []byte{}
	for _, v := range values {
		wide = binary.LittleEndian.AppendUint32(wide, math.Float32bits(v))
		half = binary.LittleEndian.AppendUint16(half, ToHalf(v))
		bfloat = binary.LittleEndian.AppendUint16(bfloat, ToBFloat(v))
	}
	got := make([]float32, len(values))
	for name, read := range map[string]func(){"f32": func() { FromFloat32(got, wide) }, "f16": func() { FromHalf(got, half) }, "bf16": func() { FromBFloat(got, bfloat) }} {
		clear(got)
		read()
		for i, v := range values {
			if name == "bf16" && v == 65504 {
				v = 65536
			}
			if got[i] != v {
				t.Errorf("%s: value %d is %v, want %v", name, i, got[i], v)
			}
		}
	}
}
