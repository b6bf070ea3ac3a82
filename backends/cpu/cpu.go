// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/internal/lloyd"
)

// Name is the backend's name.
const Name = "cpu"

// Backend computes in pure Go, on the caller's goroutine. The zero value is ready for use.
type Backend struct{}

var _ backends.Backend = Backend{}

// Name returns "cpu".
func (Backend) Name() string { return Name }

// Kernels returns one kernel, "go", for every op.
func (Backend) Kernels() []backends.Kernel {
	var ks []backends.Kernel
	for _, op := range backends.Ops() {
		ks = append(ks, backends.Kernel{Op: op, Name: "go", Threads: 1})
	}
	return ks
}

// Close does nothing.
func (Backend) Close() error { return nil }

// KMeans clusters points by Lloyd's algorithm.
func (Backend) KMeans(ctx context.Context, _ backends.Kernel, a *backends.KMeans) error {
	return lloyd.Run(ctx, a, lloyd.Steps{Step: Step})
}

// chunked sums n elements by the rule S, looking at cancel now and then. ok is false when it was cancelled.
func chunked(n int, cancel *atomic.Int32, chunk func(begin, end int) float64) (sum float64, ok bool) {
	if n <= canon.Chunk {
		return chunk(0, n), true
	}
	var t canon.Tree
	for i := 0; i < n; i += canon.Chunk {
		if i%(256*canon.Chunk) == 0 && cancelled(cancel) {
			return 0, false
		}
		t.Add(chunk(i, min(i+canon.Chunk, n)))
	}
	return t.Sum(), true
}

func cancelled(c *atomic.Int32) bool { return c != nil && c.Load() != 0 }

// nonFinite names the first value of x (or y) that is not finite.
func nonFinite(op backends.Op, x, y []float32) error {
	for i, v := range x {
		if v-v != 0 {
			return backends.Fail(backends.ErrNonFinite, op, fmt.Sprint(len(x)), "x[%d] = %v", i, v)
		}
	}
	for i, v := range y {
		if v-v != 0 {
			return backends.Fail(backends.ErrNonFinite, op, fmt.Sprint(len(x)), "y[%d] = %v", i, v)
		}
	}
	return backends.Fail(backends.ErrBackend, op, fmt.Sprint(len(x)), "a sum of finite values is not finite")
}

// Reduce computes dot and norm2.
func (Backend) Reduce(k backends.Kernel, a *backends.Reduce) error {
	y := a.Y
	if k.Op == backends.OpNorm2 {
		y = a.X
	}
	s, ok := chunked(len(a.X), a.Cancel, func(b, e int) float64 { return canon.ChunkDot(a.X[b:e], y[b:e]) })
	switch {
	case !ok:
		return context.Canceled
	case s-s != 0:
		return nonFinite(k.Op, a.X, a.Y)
	}
	if a.Result = s; k.Op == backends.OpNorm2 {
		a.Result = math.Sqrt(s)
	}
	return nil
}

// Constrain projects a step on the ball of the given radius.
func (Backend) Constrain(_ backends.Kernel, a *backends.Constrain) error {
	s, ok := chunked(len(a.X), a.Cancel, func(b, e int) float64 { return canon.ChunkDot(a.X[b:e], a.X[b:e]) })
	switch {
	case !ok:
		return context.Canceled
	case s-s != 0:
		return nonFinite(backends.OpConstrain, a.X, nil)
	}
	a.Norm = math.Sqrt(s)
	if a.Norm > a.Radius {
		scale(a.Dst, a.X, ballFactor(a.Radius, a.Norm))
	} else if &a.Dst[0] != &a.X[0] {
		copy(a.Dst, a.X)
	}
	return nil
}

// ballFactor is what values of a norm outside the radius are multiplied by: short of radius/norm by more than rounding can add.
func ballFactor(radius, norm float64) float64 { return radius / norm * (1 - 0x1p-23) }

// scale writes fl32(x·f); results that would be subnormal become zeros, so that rounding cannot lift the norm.
func scale(dst, x []float32, f float64) {
	dst = dst[:len(x)]
	for i, v := range x {
		r := math.Float32bits(float32(float64(v) * f))
		var keep uint32
		if r&0x7f800000 != 0 {
			keep = math.MaxUint32
		}
		dst[i] = math.Float32frombits(r & (keep | 1<<31))
	}
}
