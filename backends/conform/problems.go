// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"context"
	"fmt"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
)

// randomProblems holds kernels that take many fits at once to what pure Go makes of each alone.
func (s *suite) randomProblems(d *draws) {
	dim, k := 1+d.upTo(40), 1+d.upTo(40)
	o := backends.KMeans{D: dim, K: k, Seed: uint64(d.upTo(1 << 15)), MaxIter: 1 + d.upTo(12), Cosine: d.upTo(3) == 0}
	if d.upTo(1) == 0 {
		o.Tol = 1e-3
	}
	var list []backends.KMeans
	name := ""
	for range 1 + d.upTo(6) {
		a := o
		a.N = k + d.upTo(5000/dim)
		name, a.X = d.values(a.N * dim)
		list = append(list, a)
	}
	if d.upTo(1) == 0 {
		given := slices.Clone(list[0].X[:k*dim])
		for i := range list {
			list[i].Initial = given
		}
	}
	for _, a := range list {
		if a.Check() != nil { // values that are not finite may be among the given centroids
			for i := range list {
				list[i].Initial = nil
			}
		}
	}
	list = withOneFailure(list)
	s.compare(fmt.Sprintf("%d problems like %s %s cosine=%v given=%v iterations=%d", len(list), name, list[0].Shape(), o.Cosine, list[0].Initial != nil, o.MaxIter), func(c *call) {
		many := &backends.KMeansMany{}
		for _, a := range list {
			a.X, a.Initial = input(c, a.X), input(c, a.Initial)
			a.Labels, a.Centroids, a.Counts = output[int32](c, a.N), output[float32](c, a.K*a.D), output[int64](c, a.K)
			many.Fits = append(many.Fits, &a)
		}
		if c.failed(together(c, many)) {
			return
		}
		for _, a := range many.Fits {
			record(&c.out, "label", a.Labels)
			record(&c.out, "centroid value", a.Centroids)
			record(&c.out, "count", a.Counts)
			record(&c.out, "inertia", []float64{a.Inertia})
			record(&c.out, "iterations, converged", []int32{int32(a.Iterations), int32(truth(a.Converged))})
		}
	})
}

// withOneFailure leaves out all fits that fail but the first: which of several is told of depends on the step at which it shows.
func withOneFailure(list []backends.KMeans) (left []backends.KMeans) {
	failed := false
	for _, a := range list {
		b := a
		b.Labels, b.Centroids, b.Counts = make([]int32, a.N), make([]float32, a.K*a.D), make([]int64, a.K)
		if err := (cpu.Backend{}).KMeans(context.Background(), backends.Kernel{}, &b); err == nil || !failed {
			left = append(left, a)
			failed = failed || err != nil
		}
	}
	return left
}

// together runs the fits in one call of kernels that have it, and of others each alone.
func together(c *call, many *backends.KMeansMany) error {
	if c.Kernel.Many {
		return c.Backend.(backends.Together).KMeansMany(context.Background(), c.Kernel, many)
	}
	for _, a := range many.Fits {
		if err := c.Backend.KMeans(context.Background(), c.Kernel, a); err != nil {
			return err
		}
	}
	return nil
}
