// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"context"
	"math"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/quant"
)

const (
	maxRounds = 16   // of the least-squares rule
	piece     = 1280 // codes made at a time before packing: whole blocks of both packed formats
	absMask   = 1<<31 - 1
	infBits   = 0x7f800000
)

// cuts are the magnitudes above which a code grows by one; ternary has one.
type cuts struct {
	levels   quant.Levels
	one, two float32
}

func cutsOf(levels quant.Levels, s float32) cuts {
	if levels == quant.Ternary {
		return cuts{levels, float32(s / 2), math.MaxFloat32} // nothing finite lies above MaxFloat32
	}
	return cuts{levels, float32(s / 4), float32(0.75 * s)}
}

// Quantize turns values into codes and scales.
func (Backend) Quantize(_ backends.Kernel, a *backends.Quantize) error {
	t := a.Dst
	if t.Levels == quant.Sparse {
		return sparse(a)
	}
	q := quantizer{Quantize: a, cols: t.Cols}
	rows := t.Rows
	if t.Group == 0 {
		var err error
		if q.s, q.cuts, err = q.scale(a.X); err != nil {
			return err
		}
		t.Scales[0], q.end = q.s, len(a.X)
		if t.Format == quant.Int8 {
			rows, q.cols = 1, len(a.X)
		}
	}
	for r := range rows {
		if err := q.row(r); err != nil {
			return err
		}
	}
	return nil
}

// quantizer walks the values in order and keeps the group that it is in.
type quantizer struct {
	*backends.Quantize
	cols int // of a row: t.Cols, or everything when rows make no difference
	end  int // column where the group ends
	s    float32
	cuts cuts
}

// scale returns the scale of one group and the cuts of its codes.
func (q *quantizer) scale(x []float32) (float32, cuts, error) {
	levels := q.Dst.Levels
	if q.Rule == quant.AbsMax || q.Rule == quant.Stochastic {
		s := absMax(x)
		if math.Float32bits(s) >= infBits {
			return 0, cuts{}, nonFinite(backends.OpQuantize, q.X, nil)
		}
		return s, cutsOf(levels, s), nil
	}
	sum, ok := chunked(len(x), q.Cancel, func(b, e int) float64 { return canon.ChunkAbs(x[b:e]) })
	switch {
	case !ok:
		return 0, cuts{}, context.Canceled
	case sum-sum != 0:
		return 0, cuts{}, nonFinite(backends.OpQuantize, q.X, nil)
	}
	s := float32(sum / float64(len(x)))
	if q.Rule == quant.AbsMean {
		return s, cutsOf(levels, s), nil
	}
	s, ones, twos, ok := leastSquares(q, x, s)
	if !ok {
		return 0, cuts{}, context.Canceled
	}
	c := cutsOf(levels, s)
	if q.Rule == quant.Magnitude {
		energy := float64(ones)
		if levels == quant.Quinary {
			energy = (float64(ones) + 4*float64(twos)) / 4
		}
		if energy > 0 {
			sq, ok := chunked(len(x), q.Cancel, func(b, e int) float64 { return canon.ChunkDot(x[b:e], x[b:e]) })
			if !ok {
				return 0, cuts{}, context.Canceled
			}
			s = float32(math.Sqrt(sq / energy))
		}
	}
	return s, c, nil
}

// leastSquares alternates codes and scale until the codes repeat. Codes of thresholds are nested sets, so equal counts are equal codes.
// It returns how many codes of magnitude 1 and 2 the scale has.
func leastSquares(q *quantizer, x []float32, s float32) (scale float32, ones, twos int, ok bool) {
	levels := q.Dst.Levels
	var v [canon.Chunk]float32
	ones, twos = -1, -1
	for round := 0; ; round++ {
		c := cutsOf(levels, s)
		n1, n2 := 0, 0
		sum, ok := chunked(len(x), q.Cancel, func(b, e int) float64 {
			o, t := selected(v[:e-b], x[b:e], c)
			n1, n2 = n1+o, n2+t
			return canon.ChunkAbs(v[:e-b])
		})
		if !ok {
			return 0, 0, 0, false
		}
		repeated := n1 == ones && n2 == twos
		if ones, twos = n1, n2; repeated || n1+n2 == 0 || round == maxRounds {
			break
		}
		if levels == quant.Ternary {
			s = float32(sum / float64(n1))
		} else {
			s = float32(4 * sum / (float64(n1) + 4*float64(n2)))
		}
	}
	return s, ones, twos, true
}

// selected writes each value's share in the least-squares numerator: its magnitude times the magnitude of its code. It counts the codes.
func selected(v, x []float32, c cuts) (ones, twos int) {
	v = v[:len(x)]
	one, two := int32(math.Float32bits(c.one)), int32(math.Float32bits(c.two))
	small := float32(0.5)
	if c.levels == quant.Ternary {
		small = 1
	}
	var n1, n2 int32
	for i, f := range x {
		u := int32(math.Float32bits(f) & absMask)
		m1, m2 := (one-u)>>31, (two-u)>>31
		half := int32(math.Float32bits(small * math.Float32frombits(uint32(u))))
		v[i] = math.Float32frombits(uint32(u&m2 | half&m1&^m2))
		n1, n2 = n1-m1, n2-m2
	}
	return int(n1 - n2), int(n2)
}

func absMax(x []float32) float32 {
	var m uint32
	for _, v := range x {
		m = max(m, math.Float32bits(v)&absMask)
	}
	return math.Float32frombits(m)
}

// row makes the codes of row r. A group's scale is found when its first value is reached, while its values are about to be used.
func (q *quantizer) row(r int) error {
	t := q.Dst
	if t.Group > 0 {
		q.end = 0
	}
	var buf [piece]int8
	for from := 0; from < q.cols; from += piece {
		if from&(1<<20-1) < piece && cancelled(q.Cancel) {
			return context.Canceled
		}
		n := min(piece, q.cols-from)
		if t.Format == quant.Int8 {
			if err := q.codes(t.Codes[r*q.cols+from:][:n], r, from); err != nil {
				return err
			}
			continue
		}
		if err := q.codes(buf[:n], r, from); err != nil {
			return err
		}
		packed := t.Packed[r*t.Format.RowBytes(q.cols)+t.Format.RowBytes(from+1)-1:]
		quant.PackRow(packed[:t.Format.RowBytes(n)], buf[:n], t.Format)
	}
	return nil
}

// codes makes len(dst) codes of row r from column from on.
func (q *quantizer) codes(dst []int8, r, from int) error {
	t := q.Dst
	for len(dst) > 0 {
		if from >= q.end {
			if err := q.group(r, from); err != nil {
				return err
			}
		}
		n := min(q.end-from, len(dst))
		x := q.X[r*q.cols+from:][:n]
		switch {
		case q.Rule == quant.Stochastic:
			stochasticCodes(dst[:n], x, q.s, t.Levels, q.Seed, uint64(r*q.cols+from))
		case t.Levels == quant.Ternary:
			ternaryCodes(dst[:n], x, q.cuts.one)
		default:
			quinaryCodes(dst[:n], x, q.cuts)
		}
		dst, from = dst[n:], from+n
	}
	return nil
}

// group enters the group that begins at column from of row r.
func (q *quantizer) group(r, from int) (err error) {
	t := q.Dst
	q.end = min(from+t.Group, t.Cols)
	q.s, q.cuts, err = q.scale(q.X[r*t.Cols+from : r*t.Cols+q.end])
	t.Scales[r*((t.Cols-1)/t.Group+1)+from/t.Group] = q.s
	return err
}

// ternaryCodes: dst[i] = +1 if x[i] > cut, −1 if x[i] < −cut, else 0; x is finite.
//
// Magnitudes compare as integers: cut − |x| is negative exactly when |x| is above the cut.
func ternaryCodes(dst []int8, x []float32, cut float32) {
	dst = dst[:len(x)]
	c := int32(math.Float32bits(cut))
	for i, v := range x {
		b := int32(math.Float32bits(v))
		above, sign := (c-b&absMask)>>31, b>>31
		dst[i] = int8((1 ^ sign - sign) & above)
	}
}

// quinaryCodes: as ternaryCodes, and ±2 above the second cut.
func quinaryCodes(dst []int8, x []float32, c cuts) {
	dst = dst[:len(x)]
	one, two := int32(math.Float32bits(c.one)), int32(math.Float32bits(c.two))
	for i, v := range x {
		b := int32(math.Float32bits(v))
		u, sign := b&absMask, b>>31
		magnitude := -((one-u)>>31 + (two-u)>>31)
		dst[i] = int8(magnitude ^ sign - sign)
	}
}

// stochasticCodes rounds |x|/s·L up with the probability of its fraction; index is that of x[0] in the tensor.
func stochasticCodes(dst []int8, x []float32, s float32, levels quant.Levels, seed, index uint64) {
	if s == 0 {
		clear(dst)
		return
	}
	top := 1.0
	if levels == quant.Quinary {
		top = 2
	}
	var draws [4]uint32
	for i, v := range x {
		at := index + uint64(i)
		if i == 0 || at%4 == 0 {
			draws = canon.Draw4(seed, at/4)
		}
		f := math.Abs(float64(v)) / float64(s) * top
		whole := math.Floor(f)
		c := int8(whole)
		if uint64(draws[at%4]) < uint64((f-whole)*(1<<32)) {
			c++
		}
		if v < 0 {
			c = -c
		}
		dst[i] = c
	}
}
