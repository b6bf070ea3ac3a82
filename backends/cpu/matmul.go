// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"context"
	"math"
	"sync"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/canon"
)

// Every element is a float32 chain, emulated in float64 (docs/numerics.md, float32 chains): its operands are widened once a block. A slice of p is at most
// sliceDepth long; chains go on from one slice to the next by way of C.
const (
	sliceDepth = 512
	blockRows  = 64 // of A: 256 KiB when widened
)

// widened holds a block of A, row by row, and a panel of B, panelWidth columns interleaved, in float64.
type widened struct {
	a    [blockRows * sliceDepth]float64
	b    [sliceDepth * panelWidth]float64
	lowA [blockRows]uint32 // the smallest magnitude of each row that is not 0, as bits
	lowB uint32
}

var widenedPool = sync.Pool{New: func() any { return new(widened) }}

// MatMul computes the products of a batch, one after the other.
func (Backend) MatMul(_ backends.Kernel, a *backends.MatMul) error {
	s := widenedPool.Get().(*widened)
	defer widenedPool.Put(s)
	for q := range a.Batch {
		x, y, z := a.A[q*a.StrideA:], a.B[q*a.StrideB:], a.C[q*a.StrideC:]
		for p := 0; p < a.K; p += sliceDepth {
			depth := min(sliceDepth, a.K-p)
			for i := 0; i < a.M; i += blockRows {
				rows := min(blockRows, a.M-i)
				s.widenA(a, x, i, rows, p, depth)
				for j := 0; j < a.N; j += panelWidth {
					if cancelled(a.Cancel) {
						return context.Canceled
					}
					cols := min(panelWidth, a.N-j)
					s.widenB(a, y, j, cols, p, depth)
					for r := range rows {
						s.row(z[(i+r)*a.LDC+j:][:cols], r, depth, p > 0 || a.Accumulate)
					}
				}
			}
		}
	}
	return nil
}

func (s *widened) widenA(a *backends.MatMul, x []float32, i, rows, p, depth int) {
	down, along := a.LDA, 1
	if a.TransA {
		down, along = 1, a.LDA
	}
	for r := range rows {
		to, at := s.a[r*sliceDepth:][:depth], (i+r)*down+p*along
		low := uint32(infBits)
		for t := range to {
			v := x[at+t*along]
			low = min(low, smallest(v))
			to[t] = float64(v)
		}
		s.lowA[r] = low
	}
}

func (s *widened) widenB(a *backends.MatMul, y []float32, j, cols, p, depth int) {
	down, along := a.LDB, 1
	if a.TransB {
		down, along = 1, a.LDB
	}
	low := uint32(infBits)
	for t := range depth {
		to, at := (*[panelWidth]float64)(s.b[t*panelWidth:]), (p+t)*down+j*along
		for c := range cols {
			v := y[at+c*along]
			low = min(low, smallest(v))
			to[c] = float64(v)
		}
		clear(to[cols:])
	}
	s.lowB = low
}

// row carries the chains of one row of A and the panel on by depth steps.
func (s *widened) row(c []float32, r, depth int, goOn bool) {
	var sum [panelWidth]float64
	if goOn {
		for i, v := range c {
			sum[i] = float64(v)
		}
	}
	x, panel := s.a[r*sliceDepth:][:depth], s.b[:depth*panelWidth]
	careful := granule(s.lowA[r])+granule(s.lowB) < -149
	for p := 0; p < depth; p++ {
		first := 0
		if !careful {
			var n int
			if n, first = chains(x[p:], panel[p*panelWidth:], &sum); p+n == depth {
				break
			}
			p += n
		}
		for i := first; i < panelWidth; i++ {
			sum[i] = float64(canon.FMA32(float32(x[p]), float32(panel[p*panelWidth+i]), float32(sum[i])))
		}
	}
	for i := range c {
		c[i] = float32(sum[i])
	}
}

// chains carries on eight chains where no result can be subnormal and inexact. Their sums are float32 values. It stops before the first sum that is a tie between
// two of those, which is rare in most data, and returns its step and its chain; or len(x). A call for the ties in the loop would cost half of the speed.
func chains(x, panel []float64, a *[panelWidth]float64) (p, chain int) {
	a0, a1, a2, a3, a4, a5, a6, a7 := a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
steps:
	for ; p < len(x); p++ {
		v, c := x[p], (*[panelWidth]float64)(panel[p*panelWidth:])
		s0 := v*c[0] + a0
		if tie(s0) {
			chain = 0
			break steps
		}
		a0 = float64(float32(s0))
		s1 := v*c[1] + a1
		if tie(s1) {
			chain = 1
			break steps
		}
		a1 = float64(float32(s1))
		s2 := v*c[2] + a2
		if tie(s2) {
			chain = 2
			break steps
		}
		a2 = float64(float32(s2))
		s3 := v*c[3] + a3
		if tie(s3) {
			chain = 3
			break steps
		}
		a3 = float64(float32(s3))
		s4 := v*c[4] + a4
		if tie(s4) {
			chain = 4
			break steps
		}
		a4 = float64(float32(s4))
		s5 := v*c[5] + a5
		if tie(s5) {
			chain = 5
			break steps
		}
		a5 = float64(float32(s5))
		s6 := v*c[6] + a6
		if tie(s6) {
			chain = 6
			break steps
		}
		a6 = float64(float32(s6))
		s7 := v*c[7] + a7
		if tie(s7) {
			chain = 7
			break steps
		}
		a7 = float64(float32(s7))
	}
	*a = [panelWidth]float64{a0, a1, a2, a3, a4, a5, a6, a7}
	return p, chain
}

// tie tells whether s lies halfway between two float32 values.
func tie(s float64) bool { return math.Float64bits(s)&0x1fffffff == 0x10000000 }
