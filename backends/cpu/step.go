// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"context"
	"errors"
	"math"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/canon"
)

// Step constrains a step, adds it to the parameters and quantizes them.
func (b Backend) Step(k backends.Kernel, a *backends.Step) error {
	s, ok := chunked(len(a.Delta), a.Cancel, func(b, e int) float64 { return canon.ChunkDot(a.Delta[b:e], a.Delta[b:e]) })
	switch {
	case !ok || cancelled(a.Cancel):
		return context.Canceled
	case s-s != 0:
		return stepNonFinite(a, a.Delta, 0)
	}
	a.Norm = math.Sqrt(s)
	scaled, f := a.Norm > a.Radius, ballFactor(a.Radius, a.Norm)
	var buffer [canon.Chunk]float32
	for i := 0; i < len(a.Delta); i += canon.Chunk {
		u := a.Delta[i:min(i+canon.Chunk, len(a.Delta))]
		if scaled {
			scale(buffer[:], u, f)
			u = buffer[:len(u)]
		}
		p := a.Params[i:][:len(u)]
		for j, v := range u {
			p[j] += v
		}
	}
	err := b.Quantize(k, &backends.Quantize{X: a.Params, Rule: a.Rule, Seed: a.Seed, Dst: a.Dst})
	if errors.Is(err, backends.ErrNonFinite) {
		return stepNonFinite(a, a.Params, len(a.Delta))
	}
	return err
}

// stepNonFinite names the first value of v that is not finite; base is what Step.NonFinite counts v's indices from.
func stepNonFinite(a *backends.Step, v []float32, base int) error {
	for i, x := range v {
		if x-x != 0 {
			return a.NonFinite(int64(base + i))
		}
	}
	return nonFinite(backends.OpStep, v, nil)
}
