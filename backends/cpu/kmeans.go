// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"math"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/internal/lloyd"
)

// Step does one step of k-means over the rows it is given. It keeps no state.
func Step(s *lloyd.Step) error {
	switch s.Kind {
	case lloyd.Range:
		return columnRange(s)
	case lloyd.Mean:
		columnSums(s)
	case lloyd.Assign:
		assign(s)
	case lloyd.Distance:
		distances(s)
	}
	return nil
}

func columnRange(s *lloyd.Step) error {
	low, high := s.Low[:s.D], s.High[:s.D]
	var worst uint32
	for i := range s.N {
		for j, v := range s.X[i*s.D:][:s.D] {
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
	for i := range s.N {
		for j, v := range s.X[i*s.D:][:s.D] {
			s.Sums[j] += int64((float64(float64(v)*s.Scale[j]) + rounder) - rounder)
		}
	}
}

// accumulate adds the centred row x of weight w to the sums of cluster j.
func accumulate(s *lloyd.Step, x []float64, w float64, j int) {
	s.Counts[j]++
	sums, scale := s.Sums[j*s.D:][:len(x)], s.Scale[:len(x)]
	for p, v := range x {
		sums[p] += int64((float64(w*v*scale[p]) + rounder) - rounder)
	}
	if s.WeightSums != nil {
		s.WeightSums[j] += int64((float64(w*s.WeightScale) + rounder) - rounder)
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
		mean := s.Mean[:s.D]
		low := uint32(infBits)
		for p, v := range s.X[i*s.D:][:s.D] {
			t[p] = float32(v-mean[p]) - c[p]
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
