// SPDX-License-Identifier: Apache-2.0

//go:build goexperiment.simd && amd64 && go1.26 && !go1.27

package cpu

import (
	"math"
	"math/bits"
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
	x, row := make([]float64, s.D), make([]float32, s.D)
	scores := make([]float32, tileRows*len(bias)) // of tileRows rows
	for i := 0; i < s.N; i += tileRows {
		n := min(tileRows, s.N-i)
		for r := range n {
			centre(row, s, i+r)
			for p, v := range row {
				rows[p*tileRows+r] = v
			}
		}
		for t := range tiles {
			tile(rows, panels[t*s.D*tileWidth:][:s.D*tileWidth], bias[t*tileWidth:][:tileWidth], scores[t*tileWidth:], len(bias))
		}
		for r := range n {
			label := argmax(scores[r*len(bias):][:len(bias)])
			for p := range x {
				x[p] = float64(rows[p*tileRows+r])
			}
			settle(s, x, i+r, label)
		}
	}
	s.Exact += int64(s.N) * int64(s.K)
	archsimd.ClearAVXUpperBits()
}

// argmax returns the index of the greatest score, the lowest of equals. The length is a multiple of 16.
func argmax(scores []float32) int32 {
	best := archsimd.LoadFloat32x16Slice(scores)
	for v := scores; len(v) >= 16; v = v[16:] {
		best = best.Max(archsimd.LoadFloat32x16((*[16]float32)(v)))
	}
	half := best.GetHi().Max(best.GetLo())
	var lanes [4]float32
	half.GetHi().Max(half.GetLo()).Store(&lanes)
	top := archsimd.BroadcastFloat32x16(max(lanes[0], lanes[1], lanes[2], lanes[3]))
	for i := 0; i < len(scores); i += 16 {
		if m := archsimd.LoadFloat32x16Slice(scores[i:]).Equal(top).ToBits(); m != 0 {
			return int32(i + bits.TrailingZeros16(m))
		}
	}
	return 0
}

// tile scores tileRows rows against the 32 centroids of a panel: out[r*stride + l] = chain(bias[l]; rows[·][r], panel[·][l]).
func tile(rows, panel, bias, out []float32, stride int) {
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
	a0.StoreSlice(out)
	b0.StoreSlice(out[16:])
	a1.StoreSlice(out[stride:])
	b1.StoreSlice(out[stride+16:])
	a2.StoreSlice(out[2*stride:])
	b2.StoreSlice(out[2*stride+16:])
	a3.StoreSlice(out[3*stride:])
	b3.StoreSlice(out[3*stride+16:])
}
