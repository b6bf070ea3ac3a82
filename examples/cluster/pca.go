// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"

	"github.com/setun-compute/setun/internal/canon"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/plot/plotter"
)

const (
	samplePoints = 20_000
	sampleValues = 1 << 24 // fewer points when they are long: 128 MiB as float64, 64 as float32
)

// sample draws rows of a matrix, one from each of equal parts of it, in rising order: the same ones for a seed.
func sample(rows, dim int, seed uint64) []int {
	m := min(rows, samplePoints, max(2, sampleValues/dim))
	list := make([]int, m)
	for i := range list {
		begin, end := i*rows/m, (i+1)*rows/m
		list[i] = begin + int(canon.Choose(seed, uint64(i), uint64(end-begin)))
	}
	return list
}

var errNoPlane = errors.New("the principal components were not found")

// plane is spanned by the first two principal components of some points.
type plane struct {
	mean  []float64
	axes  *mat.Dense // dim × 2
	share [2]float64 // of the points' variance
}

// gather copies rows of a matrix, front to back, so that a mapped file is read once.
func gather(points []float32, dim int, rows []int) []float32 {
	list := make([]float32, 0, len(rows)*dim)
	for _, i := range rows {
		list = append(list, points[i*dim:][:dim]...)
	}
	return list
}

// newPlane finds the principal components of points by subspace iteration, which never forms the dim × dim covariance: Halko, Martinsson,
// Tropp, Finding structure with randomness (SIAM Review 2011), algorithm 4.4, with a fixed start. The axes' signs are such that the largest entry is positive.
func newPlane(ctx context.Context, points []float32, dim int) (*plane, error) {
	p := &plane{mean: make([]float64, dim), axes: mat.NewDense(dim, 2, nil)}
	for i, v := range points {
		p.mean[i%dim] += float64(v) / float64(len(points)/dim)
	}
	x := p.centred(points)
	total := math.Pow(mat.Norm(x, 2), 2)
	if total == 0 {
		return p, nil // one point many times: it is where the axes cross
	}

	const width, rounds = 8, 15 // columns beyond the two wanted make it converge
	r := rand.New(rand.NewPCG(1, 2))
	basis := mat.NewDense(dim, min(dim, width), nil)
	basis.Apply(func(int, int, float64) float64 { return r.NormFloat64() }, basis)
	var y mat.Dense
	for range rounds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		y.Mul(x, basis)
		basis.Mul(x.T(), &y)
		var svd mat.SVD
		if !svd.Factorize(basis, mat.SVDThinU) {
			return nil, errNoPlane
		}
		svd.UTo(basis)
	}
	y.Mul(x, basis)
	var svd mat.SVD // of the points within the subspace
	if !svd.Factorize(&y, mat.SVDThinV) {
		return nil, errNoPlane
	}
	var v, axes mat.Dense
	svd.VTo(&v)
	axes.Mul(basis, &v)
	for a, s := range svd.Values(nil)[:min(dim, 2)] {
		column := mat.Col(nil, a, &axes)
		var largest float64
		for _, e := range column {
			if math.Abs(e) > math.Abs(largest) {
				largest = e
			}
		}
		for i, e := range column {
			p.axes.Set(i, a, math.Copysign(1, largest)*e)
		}
		p.share[a] = s * s / total
	}
	return p, nil
}

// centred returns rows less the mean.
func (p *plane) centred(points []float32) *mat.Dense {
	dim := len(p.mean)
	x := mat.NewDense(len(points)/dim, dim, nil)
	x.Apply(func(i, j int, _ float64) float64 { return float64(points[i*dim+j]) - p.mean[j] }, x)
	return x
}

// project returns the places of rows in the plane.
func (p *plane) project(points []float32) plotter.XYs {
	var at mat.Dense
	at.Mul(p.centred(points), p.axes)
	xys := make(plotter.XYs, len(points)/len(p.mean))
	for i := range xys {
		xys[i] = plotter.XY{X: at.At(i, 0), Y: at.At(i, 1)}
	}
	return xys
}
