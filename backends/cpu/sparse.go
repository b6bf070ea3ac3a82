// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"context"
	"math"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/quant"
)

// sparse makes codes of which one in four is 0. They do not depend on the scale, so that needs no rounds: the mean magnitude of the values whose code is not 0, or for the magnitude rule √(Σx² / their number).
func sparse(a *backends.Quantize) error {
	t := a.Dst
	codes := make([]int8, t.Rows*t.Cols)
	for r := range t.Rows {
		if cancelled(a.Cancel) {
			return context.Canceled
		}
		quant.SparseCodes(codes[r*t.Cols:][:t.Cols], a.X[r*t.Cols:][:t.Cols])
	}
	group, groups, rows, cols := t.Group, 1, t.Rows, t.Cols
	if group == 0 {
		group, rows, cols = t.Rows*t.Cols, 1, t.Rows*t.Cols
	} else {
		groups = (t.Cols-1)/group + 1
	}
	for r := range rows {
		for g := range groups {
			from, to := r*cols+g*group, r*cols+min((g+1)*group, cols)
			s, err := sparseScale(a, a.X[from:to], codes[from:to])
			if err != nil {
				return err
			}
			t.Scales[r*groups+g] = s
		}
	}
	for r := range t.Rows {
		row := codes[r*t.Cols:][:t.Cols]
		if t.Format == quant.Int8 {
			copy(t.Codes[r*t.Cols:], row)
		} else {
			bytes := t.Format.RowBytes(t.Cols)
			quant.PackRow(t.Packed[r*bytes:][:bytes], row, t.Format)
		}
	}
	return nil
}

func sparseScale(a *backends.Quantize, x []float32, codes []int8) (float32, error) {
	n := 0
	var v [canon.Chunk]float32
	sum, ok := chunked(len(x), a.Cancel, func(b, e int) float64 {
		for i := b; i < e; i++ {
			if v[i-b] = 0; codes[i] != 0 {
				v[i-b] = x[i]
				n++
			}
		}
		if a.Rule == quant.Magnitude {
			return canon.ChunkDot(x[b:e], x[b:e])
		}
		return canon.ChunkAbs(v[:e-b])
	})
	switch {
	case !ok:
		return 0, context.Canceled
	case sum-sum != 0, nonFiniteIn(x):
		return 0, nonFinite(backends.OpQuantize, a.X, nil)
	case n == 0:
		return 0, nil // a group of one code that is 0
	case a.Rule == quant.Magnitude:
		return float32(math.Sqrt(sum / float64(n))), nil
	}
	return float32(sum / float64(n)), nil
}

// nonFiniteIn looks at the values whose code is 0 too: their magnitude is not in the sum, and NaN is below nothing.
func nonFiniteIn(x []float32) bool { return math.Float32bits(absMax(x)) >= infBits }
