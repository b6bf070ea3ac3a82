// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// draws makes choices: from bytes while there are some, as a fuzzer gives them, then from a generator that they seed.
type draws struct {
	bytes []byte
	r     *rand.Rand
}

func drawsFrom(b []byte) *draws {
	h := fnv.New64a()
	h.Write(b)
	return &draws{b, rand.New(rand.NewPCG(h.Sum64(), 1))}
}

// upTo draws a number from 0 to most.
func (d *draws) upTo(most int) int {
	switch {
	case most <= 0:
		return 0
	case most < 1<<8 && len(d.bytes) > 0:
		v := int(d.bytes[0])
		d.bytes = d.bytes[1:]
		return v % (most + 1)
	case len(d.bytes) > 1:
		v := int(binary.LittleEndian.Uint16(d.bytes))
		d.bytes = d.bytes[2:]
		return v % (most + 1)
	}
	return d.r.IntN(most + 1)
}

// matrix draws a shape of few or some thousand values, often about where lanes and chunks end.
func (d *draws) matrix() (rows, cols int) {
	side := func(most int) int {
		switch d.upTo(3) {
		case 0:
			return 1 + d.upTo(7)
		case 1:
			return max(1, 16<<d.upTo(3)+d.upTo(2)-1)
		}
		return 1 + d.upTo(most)
	}
	switch d.upTo(7) {
	case 0:
		return 1, max(1, 4096*(1+d.upTo(3))+d.upTo(4)-2)
	case 1:
		return 4095 + d.upTo(2), 1 + d.upTo(7)
	}
	return side(200), side(200)
}

// radius draws what a norm is constrained to.
func (d *draws) radius() float64 { return radii[d.upTo(len(radii)-1)] }

// values draws n values: of a kind, or any bits at all, of the fuzzer's bytes as far as they go.
func (d *draws) values(n int) (kind string, x []float32) {
	x = make([]float32, n)
	i := d.upTo(len(kinds) + 2)
	if i < len(kinds) {
		fill(x, kinds[i], d.r)
		return kinds[i], x
	}
	finite := d.upTo(3) != 0
	for i := range x {
		if len(d.bytes) >= 4 {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(d.bytes))
			d.bytes = d.bytes[4:]
		} else {
			x[i] = math.Float32frombits(d.r.Uint32())
		}
		if finite && x[i]-x[i] != 0 {
			x[i] = float32(i%7) - 3
		}
	}
	return "bits", x
}

// random runs the op's drawn cases.
func (s *suite) random(one func(d *draws)) {
	for i := range s.o.Random {
		var seed [16]byte
		binary.LittleEndian.PutUint64(seed[:], s.o.Seed)
		binary.LittleEndian.PutUint64(seed[8:], uint64(i)<<8|uint64(s.op))
		h := fnv.New64a()
		h.Write(seed[:])
		s.drawn = fmt.Sprintf("random case %d of seed %d: ", i, s.o.Seed)
		one(&draws{nil, rand.New(rand.NewPCG(h.Sum64(), 0))})
	}
	s.drawn = ""
}
