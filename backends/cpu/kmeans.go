// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"context"
	"math"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/internal/lloyd"
)

// sliceWork is how many multiply-adds may pass between two looks at Cancel: a quarter of a second.
const sliceWork = 1 << 28

// Step does one step of k-means over the rows it is given, slice by slice. It keeps no state.
func Step(s *lloyd.Step) error {
	if s.Kind == lloyd.Potential {
		potential(s)
		return nil
	}
	work := s.D
	if s.Kind == lloyd.Assign {
		work *= s.K
	}
	s.Changed, s.Exact = 0, 0
	rows := max(canon.Chunk, sliceWork/work)
	for i := 0; i < s.N; i += rows {
		if s.Cancel != nil && s.Cancel.Load() != 0 {
			return context.Canceled
		}
		part := s.Rows(i, min(rows, s.N-i))
		if err := slice(&part); err != nil {
			return err
		}
		s.Changed += part.Changed
		s.Exact += part.Exact
	}
	return nil
}

func slice(s *lloyd.Step) error {
	switch s.Kind {
	case lloyd.Range:
		return columnRange(s)
	case lloyd.Mean:
		columnSums(s)
	case lloyd.Assign:
		assign(s)
	case lloyd.Distance:
		distances(s)
	case lloyd.Units:
		units(s)
	}
	return nil
}

// centre writes row i times its unit less the mean to dst.
func centre(dst []float32, s *lloyd.Step, i int) {
	mean, row := s.Mean[:len(dst)], s.X[i*s.D:][:len(dst)]
	if s.Unit == nil {
		for p, v := range row {
			dst[p] = v - mean[p]
		}
		return
	}
	u := s.Unit[i]
	for p, v := range row {
		dst[p] = float32(v*u) - mean[p]
	}
}

func columnRange(s *lloyd.Step) error {
	low, high := s.Low[:s.D], s.High[:s.D]
	var worst uint32
	scaled, row := make([]float32, s.D), []float32(nil)
	for i := range s.N {
		if row = s.X[i*s.D:][:s.D]; s.Unit != nil {
			for p, v := range row {
				scaled[p] = v * s.Unit[i]
			}
			row = scaled
		}
		for j, v := range row {
			worst = max(worst, math.Float32bits(v)&absMask)
			if v < low[j] {
				low[j] = v
			}
			if v > high[j] {
				high[j] = v
			}
		}
	}
	if worst >= infBits {
		return backends.ErrNonFinite
	}
	return nil
}

// rounder rounds a float64 of magnitude at most 2^51 to the nearest integer, ties to even, when it is added and taken away again.
const rounder = 3 << 51

func columnSums(s *lloyd.Step) {
	x := make([]float32, s.D)
	whole := *s
	whole.Mean = make([]float32, s.D)
	for i := range s.N {
		centre(x, &whole, i)
		for j, v := range x {
			s.Sums[j] += int64((float64(float64(v)*s.Scale[j]) + rounder) - rounder)
		}
	}
}

// potential: the integer sum of each chunk of weighted distances.
func potential(s *lloyd.Step) {
	at := func(i int) float64 {
		v := float64(s.Distance[i])
		if s.Weights != nil {
			v *= float64(s.Weights[i])
		}
		return v
	}
	var top float64
	for i := range s.N {
		top = max(top, at(i))
	}
	_, e := math.Frexp(top)
	s.WeightScale = math.Ldexp(s.WeightScale, -e)
	for i := range s.N {
		if i%canon.Chunk == 0 {
			s.Sums[i/canon.Chunk] = 0
		}
		s.Sums[i/canon.Chunk] += int64((float64(at(i)*s.WeightScale) + rounder) - rounder)
	}
}

// units: 1/‖x‖ of each row.
func units(s *lloyd.Step) {
	for i := range s.N {
		s.Distance[i] = float32(1 / math.Sqrt(canon.SumSquares(s.X[i*s.D:][:s.D])))
	}
}

// settle gives row i, centred in x, its label and adds it to the sums.
func settle(s *lloyd.Step, x []float64, i int, label int32) {
	old := s.Labels[i]
	if old != label {
		s.Labels[i] = label
		s.Changed++
	}
	if s.Sums == nil || s.Moved && old == label {
		return
	}
	w := 1.0
	if s.Weights != nil {
		w = float64(s.Weights[i])
	}
	accumulate(s, x, w, int(label), 1)
	if s.Moved {
		accumulate(s, x, w, int(old), -1)
	}
}

// accumulate adds the centred row x of weight w to the sums of cluster j, or takes it from them when sign is −1.
func accumulate(s *lloyd.Step, x []float64, w float64, j int, sign int64) {
	s.Counts[j] += sign
	sums, scale := s.Sums[j*s.D:][:len(x)], s.Scale[:len(x)]
	for p, v := range x {
		sums[p] += sign * int64((float64(w*v*scale[p])+rounder)-rounder)
	}
	if s.WeightSums != nil {
		s.WeightSums[j] += sign * int64((float64(w*s.WeightScale)+rounder)-rounder)
	}
}

// distances: the chain over (x′ − c)², where x′ = x − mean.
func distances(s *lloyd.Step) {
	t := make([]float32, s.D)
	for i := range s.N {
		c := s.Centroids[:s.D]
		if s.Labels != nil {
			c = s.Centroids[int(s.Labels[i])*s.D:][:s.D]
		}
		centre(t, s, i)
		low := uint32(infBits)
		for p := range t {
			t[p] -= c[p]
			low = min(low, smallest(t[p]))
		}
		var a float32
		if granule(low)+granule(low) >= -149 {
			a = squaresFast(t)
		} else {
			for _, v := range t {
				a = canon.FMA32(v, v, a)
			}
		}
		if !s.KeepMin || a < s.Distance[i] {
			s.Distance[i] = a
		}
	}
}

// squaresFast is chain(0; t, t) where no result can be subnormal and inexact.
func squaresFast(t []float32) float32 {
	a := 0.0
	for _, v := range t {
		p := float64(v) * float64(v)
		s := p + a
		if math.Float64bits(s)&0x1fffffff == 0x10000000 {
			a = float64(canon.FMARound(p, a, s))
			continue
		}
		a = float64(float32(s))
	}
	return float32(a)
}

// smallest is the magnitude of v as bits, infinity for 0: the smallest of these over a vector is its smallest value that is not 0.
func smallest(v float32) uint32 {
	u := math.Float32bits(v) & absMask
	if u == 0 {
		u = infBits
	}
	return u
}

// granule returns g such that every float32 of magnitude bits u or above is a multiple of 2^g.
func granule(u uint32) int { return max(int(u>>23), 1) - 150 }
