// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"

	"github.com/setun-compute/setun/quant"
)

// stats compares values with what is stored for them, over chunks.
type stats struct {
	n      int64
	counts [5]int64 // of codes, from −2 on
	xx     float64  // Σx²
	qq     float64
	xq     float64
	ee     float64 // Σ(x − q)²
	worst  float64 // max |x − q|

	scales []float32 // of each row, when they are asked for
}

// add takes a chunk of Int8 codes and the values that they stand for.
func (s *stats) add(q *quant.Tensor, x []float32) {
	group := q.Group
	if group == 0 {
		group = q.Cols
	}
	per := (q.Cols-1)/group + 1
	for r := range q.Rows {
		for g := range per {
			scale := q.Scales[0]
			if q.Group > 0 {
				scale = q.Scales[r*per+g]
			}
			if q.Levels == quant.Quinary {
				scale /= 2
			}
			begin, end := r*q.Cols+g*group, r*q.Cols+min((g+1)*group, q.Cols)
			s.group(q.Codes[begin:end], x[begin:end], scale)
		}
	}
	s.n += int64(len(x))
}

// group takes values that share a scale, unit being the value of code 1. What depends on codes alone is counted first.
func (s *stats) group(codes []int8, x []float32, unit float32) {
	x = x[:len(codes)]
	var counts [4][5]int64
	var xx, ee [2]float64 // two chains, since an addition waits for the one before
	worst := float32(0)
	for i, c := range codes {
		counts[i&3][c+2]++
		v := x[i]
		e := v - float32(unit*float32(c))
		xx[i&1] += float64(v) * float64(v)
		ee[i&1] += float64(e) * float64(e)
		worst = max(worst, e, -e)
	}
	uu := float64(unit) * float64(unit)
	qq := 0.0
	for k := range s.counts {
		n := counts[0][k] + counts[1][k] + counts[2][k] + counts[3][k]
		s.counts[k] += n
		qq += float64(n) * float64((k-2)*(k-2))
	}
	qq *= uu
	s.xx, s.ee, s.qq = s.xx+(xx[0]+xx[1]), s.ee+(ee[0]+ee[1]), s.qq+qq
	s.xq += ((xx[0] + xx[1]) + qq - (ee[0] + ee[1])) / 2 // of (x − q)² = x² − 2xq + q²
	s.worst = max(s.worst, float64(worst))
}

// join adds another tensor's.
func (s *stats) join(o *stats) {
	s.n += o.n
	for i := range s.counts {
		s.counts[i] += o.counts[i]
	}
	s.xx, s.qq, s.xq, s.ee, s.worst = s.xx+o.xx, s.qq+o.qq, s.xq+o.xq, s.ee+o.ee, max(s.worst, o.worst)
}

func (s *stats) zeros() float64 { return share(float64(s.counts[2]), float64(s.n)) }

// entropy is that of single codes, in bits.
func (s *stats) entropy() float64 {
	h := 0.0
	for _, c := range s.counts {
		if c > 0 {
			p := float64(c) / float64(s.n)
			h -= p * math.Log2(p)
		}
	}
	return h
}

func (s *stats) cosine() float64 {
	return share(s.xq, math.Sqrt(s.xx)*math.Sqrt(s.qq))
}

func (s *stats) relative() float64 { return share(s.ee, s.xx) }

func (s *stats) magnitude() float64 { return math.Sqrt(share(s.qq, s.xx)) }

// share is a/b, 0 when b is.
func share(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
