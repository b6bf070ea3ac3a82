// SPDX-License-Identifier: Apache-2.0

package lloyd

import (
	"math"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/canon"
)

// directions finds 1/‖x‖ of every row, for the cosine metric. With rows and centroids of length 1, ‖x − c‖² is twice 1 less the cosine: the rest of the
// algorithm is that of L2 on the rows so scaled, and only the centroids are brought back to length 1 when they move (Dhillon and Modha, 2001).
func (f *fit) directions() error {
	a := f.a
	if !a.Cosine {
		return nil
	}
	unit := make([]float32, a.N)
	if err := f.pass(&Step{Kind: Units, Distance: unit}); err != nil {
		return err
	}
	if err := f.pull(nil, unit); err != nil {
		return err
	}
	for i, u := range unit {
		if u >= 0x1p-126 && u <= math.MaxFloat32 {
			continue
		}
		row, err := f.points(i, 1)
		if err != nil {
			return err
		}
		zero := true
		for j, v := range row {
			if v-v != 0 {
				return backends.Fail(backends.ErrNonFinite, backends.OpKMeans, a.Shape(), "row %d, column %d = %v", i, j, v)
			}
			zero = zero && v == 0
		}
		if zero {
			return backends.Fail(backends.ErrArgument, backends.OpKMeans, a.Shape(), "row %d is 0 and has no direction", i)
		}
		return backends.Fail(backends.ErrRange, backends.OpKMeans, a.Shape(), "1/‖row %d‖ is not a normal float32", i)
	}
	f.unit = unit
	return nil
}

// given returns the initial centroids, of length 1 for the cosine metric.
func (f *fit) given() ([]float32, error) {
	a := f.a
	if !a.Cosine || a.Initial == nil {
		return a.Initial, nil
	}
	c := make([]float32, len(a.Initial))
	for j := range a.K {
		row := a.Initial[j*a.D:][:a.D]
		u := float32(1 / math.Sqrt(canon.SumSquares(row)))
		if !(u >= 0x1p-126 && u <= math.MaxFloat32) {
			return nil, backends.Fail(backends.ErrArgument, backends.OpKMeans, a.Shape(), "initial centroid %d has no direction, or a length out of range", j)
		}
		for p, v := range row {
			c[j*a.D+p] = v * u
		}
	}
	return c, nil
}

// toSphere scales the centroid c + mean to length 1. Where the rows of a cluster cancel out there is no direction: it stays at old.
func (f *fit) toSphere(c, old []float32) {
	v := make([]float64, len(c))
	var t canon.Tree
	var chunk [canon.Chunk]float64
	for i := 0; i < len(c); i += canon.Chunk {
		n := min(canon.Chunk, len(c)-i)
		for l := range n {
			v[i+l] = float64(c[i+l]) + float64(f.mean[i+l])
			chunk[l] = float64(v[i+l] * v[i+l])
		}
		t.Add(canon.ChunkSum(chunk[:n]))
	}
	norm := math.Sqrt(t.Sum())
	if !(norm >= 0x1p-100) {
		copy(c, old)
		return
	}
	for p := range c {
		c[p] = float32(v[p]/norm - float64(f.mean[p]))
	}
}
