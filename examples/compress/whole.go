// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"math"

	"github.com/setun-compute/setun/quant"
)

// One scale for a whole tensor needs all values before the first code. A first pass over the file sorts them by magnitude into bins, of the upper 17 bits of a float32 without the sign: what the scale depends on is then known to a
// fraction of a bin's width, which is 0.4 % of the magnitude, for any number of values in 1 MiB of memory.

const (
	binShift = 15                 // bits of a float32 that a bin leaves out
	bins     = 0xff<<8 | 1<<8 - 1 // 8 bits of exponent, 8 of fraction, without infinities
)

// magnitudes are the values of a tensor by magnitude.
type magnitudes struct {
	count    [bins + 1]int64
	sum      [bins + 1]float64 // Σ|x|
	n        int64
	total    float64 // Σ|x|
	squares  float64 // Σx²
	greatest float32
}

func (m *magnitudes) add(x []float32) {
	for _, v := range x {
		a := max(v, -v)
		b := math.Float32bits(a) >> binShift
		m.count[b]++
		m.sum[b] += float64(a)
		m.total += float64(a)
		m.squares += float64(a) * float64(a)
		m.greatest = max(m.greatest, a)
	}
	m.n += int64(len(x))
}

// above returns how many values are beyond t, and their sum. Within a bin values count as spread evenly.
func (m *magnitudes) above(t float64) (n, sum float64) {
	at := int(math.Float32bits(float32(t)) >> binShift)
	for b := at + 1; b <= bins; b++ {
		n += float64(m.count[b])
		sum += m.sum[b]
	}
	low, high := float64(math.Float32frombits(uint32(at)<<binShift)), float64(math.Float32frombits(uint32(at+1)<<binShift))
	share := min(1, max(0, (high-t)/(high-low)))
	n += float64(share * float64(m.count[at]))
	sum += float64(share * float64(m.count[at]) * (t + high) / 2)
	return n, sum
}

// fit alternates codes and scale as the least-squares rule of docs/numerics.md does, and returns the scale and Σlevel² of its codes.
func (m *magnitudes) fit(l quant.Levels) (scale, levels2 float64) {
	if m.total == 0 {
		return 0, 0
	}
	scale = m.total / float64(m.n)
	for range 64 {
		var n, sum float64
		if l == quant.Quinary { // codes count halves of the scale
			n1, s1 := m.above(scale / 4)
			n2, s2 := m.above(0.75 * scale)
			n, sum = (n1-n2)/4+n2, (s1-s2)/2+s2
		} else {
			n, sum = m.above(scale / 2)
		}
		if n == 0 {
			return scale, levels2
		}
		next := sum / n
		levels2 = n
		if math.Abs(next-scale) <= 1e-7*scale {
			return next, levels2
		}
		scale = next
	}
	return scale, levels2
}

// threshold is the scale that codes are chosen by; that of the magnitude rule is not the one that is stored.
type threshold struct{ scale float32 }

// wholeScale finds the one scale of a tensor, and what codes are chosen by.
func (e *encoder) wholeScale(ctx context.Context, t *tensor, c choice) (float32, threshold, error) {
	quiet := *e.p
	quiet.w, quiet.terminal = io.Discard, false
	pass := encoder{rt: e.rt, src: e.src, p: &quiet, x: e.x}
	m := new(magnitudes)
	var some, sum, squares float64 // how many sparse codes are not 0, Σ|x| of those, Σx² of all
	err := pass.chunks(ctx, t, true, func(_ int, x []float32) error {
		if c.levels != quant.Sparse {
			m.add(x)
			return nil
		}
		codes := make([]int8, t.cols)
		for ; len(x) > 0; x = x[t.cols:] {
			quant.SparseCodes(codes, x[:t.cols])
			for i, code := range codes {
				v := math.Abs(float64(x[i]))
				if squares += v * v; code != 0 {
					some, sum = some+1, sum+v
				}
			}
		}
		return nil
	})
	if err != nil {
		return 0, threshold{}, err
	}
	scale := 0.0
	switch {
	case c.levels == quant.Sparse && c.rule == quant.Magnitude:
		scale = math.Sqrt(squares / some)
	case c.levels == quant.Sparse:
		scale = sum / some
	case c.rule == quant.AbsMean:
		scale = m.total / float64(m.n)
	case c.rule == quant.AbsMax:
		scale = float64(m.greatest)
	default:
		s, levels2 := m.fit(c.levels)
		if scale = s; c.rule == quant.Magnitude && levels2 > 0 {
			return float32(math.Sqrt(m.squares / levels2)), threshold{float32(s)}, nil
		}
	}
	return float32(scale), threshold{float32(scale)}, nil
}
