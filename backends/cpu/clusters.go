// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"context"
	"math"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/canon"
)

// ConstrainClusters projects each cluster of a step on the ball of its own radius.
func (Backend) ConstrainClusters(_ backends.Kernel, a *backends.Clusters) error {
	squares := func(x []float32) (float64, error) {
		s, ok := chunked(len(x), a.Cancel, func(b, e int) float64 { return canon.ChunkDot(x[b:e], x[b:e]) })
		switch {
		case !ok || cancelled(a.Cancel):
			return 0, context.Canceled
		case s-s != 0:
			return 0, nonFinite(backends.OpClusters, a.X, nil)
		}
		return s, nil
	}
	if a.Labels == nil {
		for c := range a.Norms {
			s, err := squares(a.X[a.Offsets[c]:a.Offsets[c+1]])
			if err != nil {
				return err
			}
			a.Norms[c] = math.Sqrt(s)
		}
		for c := range a.Norms {
			project(a, int(a.Offsets[c]), int(a.Offsets[c+1]), c)
		}
		return nil
	}
	cols := len(a.X) / len(a.Labels)
	sums := make([][]float64, len(a.Radii)) // of each cluster's rows
	for r, c := range a.Labels {
		s, err := squares(a.X[r*cols : (r+1)*cols])
		if err != nil {
			return err
		}
		if c >= 0 {
			sums[c] = append(sums[c], s)
		}
	}
	for c, s := range sums {
		a.Norms[c] = math.Sqrt(canon.Sum(s))
	}
	for r, c := range a.Labels {
		project(a, r*cols, (r+1)*cols, int(c))
	}
	return nil
}

// project scales values of cluster c, or copies them when they are inside its ball or c is −1.
func project(a *backends.Clusters, begin, end, c int) {
	dst, x := a.Dst[begin:end], a.X[begin:end]
	if c >= 0 && a.Norms[c] > a.Radii[c] {
		scale(dst, x, ballFactor(a.Radii[c], a.Norms[c]))
	} else if len(x) > 0 && &dst[0] != &x[0] {
		copy(dst, x)
	}
}
