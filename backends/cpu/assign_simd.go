// SPDX-License-Identifier: Apache-2.0

//go:build goexperiment.simd && amd64 && go1.26 && !go1.27

package cpu

import (
	"math"
	"simd/archsimd"

	"github.com/setun-compute/setun/internal/lloyd"
)

// With simd/archsimd the fused chains are single instructions, so the canonical scores are computed as they are: a
// register tile of tileRows rows by two vectors of 16 centroids runs over the whole dimension. The API of Go 1.26 is
// bound here; Go 1.27 changed it.
const (
	tileRows  = 4
	tileWidth = 32
)

// assign labels each row with the centroid of the greatest score and adds the row to its sums.
func assign(s *lloyd.Step) {
	if !archsimd.X86.AVX512() {
		assignPortable(s)
		return
	}
	tiles := (s.K-1)/tileWidth + 1
	panels, bias := make([]float32, tiles*s.D*tileWidth), make([]float32, tiles*tileWidth)
	for j := range bias {
		if j >= s.K {
			bias[j] = float32(math.Inf(-1)) // zeros here never win
			continue
		}
		bias[j] = s.Bias[j]
		panel := panels[j/tileWidth*s.D*tileWidth:]
		for p, v := range s.Centroids[j*s.D:][:s.D] {
			panel[p*tileWidth+j%tileWidth] = v
		}
	}
	rows := make([]float32, tileRows*s.D) // element p of row r at p*tileRows + r
	x := make([]float64, s.D)
	var top winners
	for i := 0; i < s.N; i += tileRows {
		n := min(tileRows, s.N-i)
		for r := range n {
			for p, v := range s.X[(i+r)*s.D:][:s.D] {
				rows[p*tileRows+r] = v - s.Mean[p]
			}
		}
		top.reset()
		for t := range tiles {
			top.tile(rows, panels[t*s.D*tileWidth:][:s.D*tileWidth], bias[t*tileWidth:][:tileWidth], int32(t*tileWidth))
		}
		for r := range n {
			label := top.label(r)
			if s.Labels[i+r] != label {
				s.Labels[i+r] = label
				s.Changed++
			}
			if s.Sums == nil {
				continue
			}
			for p := range x {
				x[p] = float64(rows[p*tileRows+r])
			}
			w := 1.0
			if s.Weights != nil {
				w = float64(s.Weights[i+r])
			}
			accumulate(s, x, w, int(label))
		}
	}
	archsimd.ClearAVXUpperBits()
}

// winners keeps, for each row and each of 16 lanes, the best score so far and the lowest centroid that has it.
type winners struct {
	score [tileRows][16]float32
	index [tileRows][16]int32
}

func (w *winners) reset() {
	for r := range w.score {
		for l := range w.score[r] {
			w.score[r][l] = float32(math.Inf(-1))
		}
	}
}

// label returns the centroid of the greatest score of row r, the lowest of equals.
func (w *winners) label(r int) int32 {
	best := 0
	for l, v := range w.score[r] {
		if v > w.score[r][best] || v == w.score[r][best] && w.index[r][l] < w.index[r][best] {
			best = l
		}
	}
	return w.index[r][best]
}

// offer lets the scores of 16 centroids from first on compete.
func (w *winners) offer(r int, v archsimd.Float32x16, index archsimd.Int32x16) {
	best := archsimd.LoadFloat32x16(&w.score[r])
	better := v.Greater(best)
	v.Merge(best, better).Store(&w.score[r])
	index.Merge(archsimd.LoadInt32x16(&w.index[r]), better).Store(&w.index[r])
}

var lanes = [16]int32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// tile scores tileRows rows against the 32 centroids of a panel: chain(bias[l]; rows[·][r], panel[·][l]).
func (w *winners) tile(rows, panel, bias []float32, first int32) {
	a0 := archsimd.LoadFloat32x16((*[16]float32)(bias))
	b0 := archsimd.LoadFloat32x16((*[16]float32)(bias[16:]))
	a1, b1, a2, b2, a3, b3 := a0, b0, a0, b0, a0, b0
	for len(panel) >= tileWidth && len(rows) >= tileRows {
		u := archsimd.LoadFloat32x16((*[16]float32)(panel))
		v := archsimd.LoadFloat32x16((*[16]float32)(panel[16:]))
		x := (*[tileRows]float32)(rows)
		f := archsimd.BroadcastFloat32x16(x[0])
		a0, b0 = f.MulAdd(u, a0), f.MulAdd(v, b0)
		f = archsimd.BroadcastFloat32x16(x[1])
		a1, b1 = f.MulAdd(u, a1), f.MulAdd(v, b1)
		f = archsimd.BroadcastFloat32x16(x[2])
		a2, b2 = f.MulAdd(u, a2), f.MulAdd(v, b2)
		f = archsimd.BroadcastFloat32x16(x[3])
		a3, b3 = f.MulAdd(u, a3), f.MulAdd(v, b3)
		panel, rows = panel[tileWidth:], rows[tileRows:]
	}
	i := archsimd.LoadInt32x16(&lanes).Add(archsimd.BroadcastInt32x16(first))
	j := i.Add(archsimd.BroadcastInt32x16(16))
	w.offer(0, a0, i)
	w.offer(0, b0, j)
	w.offer(1, a1, i)
	w.offer(1, b1, j)
	w.offer(2, a2, i)
	w.offer(2, b2, j)
	w.offer(3, a3, i)
	w.offer(3, b3, j)
}
