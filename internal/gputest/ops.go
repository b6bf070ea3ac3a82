// SPDX-License-Identifier: Apache-2.0

package gputest

import (
	"context"

	"github.com/setun-compute/setun/backends"
)

// Reduce is dot and norm2.
func (g *GPU) Reduce(k backends.Kernel, a *backends.Reduce) error {
	b := *a
	err := g.on([]operand{{&b.X, a.XAt, false}, {&b.Y, a.YAt, false}}, func() error { return g.Backend.Reduce(k, &b) })
	a.Result = b.Result
	return err
}

// KMeans clusters. What it writes is the program's.
func (g *GPU) KMeans(ctx context.Context, k backends.Kernel, a *backends.KMeans) error {
	b := *a
	err := g.on([]operand{{&b.X, a.XAt, false}, {&b.Weights, a.WeightsAt, false}}, func() error { return g.Backend.KMeans(ctx, k, &b) })
	b.X, b.XAt, b.Weights, b.WeightsAt = a.X, a.XAt, a.Weights, a.WeightsAt
	*a = b
	return err
}

// KMeansMany clusters each by itself. What it writes is the program's.
func (g *GPU) KMeansMany(ctx context.Context, k backends.Kernel, list *backends.KMeansMany) error {
	g.Lists++
	if g.Fails != nil {
		return g.Fails
	}
	list.Failed = -1
	for i, a := range list.Fits {
		if err := g.Backend.KMeans(ctx, k, a); err != nil {
			list.Failed = i
			return err
		}
	}
	return nil
}

// Constrain projects a step.
func (g *GPU) Constrain(k backends.Kernel, a *backends.Constrain) error {
	b := *a
	err := g.on([]operand{{&b.X, a.XAt, false}, {&b.Dst, a.DstAt, true}}, func() error { return g.Backend.Constrain(k, &b) })
	a.Norm = b.Norm
	return err
}

// ConstrainClusters projects the clusters of a step.
func (g *GPU) ConstrainClusters(k backends.Kernel, a *backends.Clusters) error {
	b := *a
	return g.on([]operand{{&b.X, a.XAt, false}, {&b.Dst, a.DstAt, true}}, func() error { return g.Backend.ConstrainClusters(k, &b) })
}

// Quantize makes codes.
func (g *GPU) Quantize(k backends.Kernel, a *backends.Quantize) error {
	b := *a
	return g.on([]operand{{&b.X, a.XAt, false}}, func() error { return g.Backend.Quantize(k, &b) })
}

// Step takes a step.
func (g *GPU) Step(k backends.Kernel, a *backends.Step) error {
	b := *a
	err := g.on([]operand{{&b.Params, a.ParamsAt, true}, {&b.Delta, a.DeltaAt, false}}, func() error { return g.Backend.Step(k, &b) })
	a.Norm = b.Norm
	return err
}

// MatMul multiplies.
func (g *GPU) MatMul(k backends.Kernel, a *backends.MatMul) error {
	b := *a
	return g.on([]operand{{&b.A, a.AAt, false}, {&b.B, a.BAt, false}, {&b.C, a.CAt, true}}, func() error { return g.Backend.MatMul(k, &b) })
}

// Activations makes int8 codes.
func (g *GPU) Activations(k backends.Kernel, a *backends.Activations) error {
	b := *a
	return g.on([]operand{{&b.X, a.XAt, false}}, func() error { return g.Backend.Activations(k, &b) })
}

// Ternary multiplies by codes.
func (g *GPU) Ternary(k backends.Kernel, a *backends.Ternary) error {
	b := *a
	return g.on([]operand{{&b.Out, a.OutAt, true}}, func() error { return g.Backend.Ternary(k, &b) })
}

// RMSNorm divides rows by their root mean square.
func (g *GPU) RMSNorm(k backends.Kernel, a *backends.RMSNorm) error {
	b, forward := *a, a.DY == nil
	return g.on([]operand{{&b.X, a.XAt, false}, {&b.Delta, a.DeltaAt, false}, {&b.Sum, a.SumAt, true}, {&b.Gain, a.GainAt, false}, {&b.Scale, a.ScaleAt, forward}, {&b.DY, a.DYAt, false}, {&b.Out, a.OutAt, true}, {&b.DGain, a.DGainAt, true}}, func() error { return g.Backend.RMSNorm(k, &b) })
}

// Softmax is that of rows.
func (g *GPU) Softmax(k backends.Kernel, a *backends.Softmax) error {
	b := *a
	return g.on([]operand{{&b.X, a.XAt, true}, {&b.P, a.PAt, false}}, func() error { return g.Backend.Softmax(k, &b) })
}

// Activate is the function of a feed-forward.
func (g *GPU) Activate(k backends.Kernel, a *backends.Activate) error {
	b := *a
	return g.on([]operand{{&b.X, a.XAt, false}, {&b.DY, a.DYAt, false}, {&b.Out, a.OutAt, true}}, func() error { return g.Backend.Activate(k, &b) })
}

// Update advances moments.
func (g *GPU) Update(k backends.Kernel, a *backends.Update) error {
	b := *a
	return g.on([]operand{{&b.Value, a.ValueAt, false}, {&b.Grad, a.GradAt, false}, {&b.M, a.MAt, true}, {&b.V, a.VAt, true}, {&b.Delta, a.DeltaAt, true}}, func() error { return g.Backend.Update(k, &b) })
}
