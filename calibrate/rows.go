// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/runtime"
)

// rowColumns are how many values the rows of rmsnorm, softmax and activate have when they are measured.
const rowColumns = 128

// rowJobs lists jobs of n values of the ops of a network's layers and its optimiser: the plain ones, or all variants.
func rowJobs(op backends.Op, n int, all bool) (jobs []job) {
	rows, cols := max(1, n/rowColumns), min(n, rowColumns)
	add := func(s dispatch.Shape) { jobs = append(jobs, job{shape: s}) }
	for _, gradient := range []bool{false, true} {
		switch op {
		case backends.OpRMSNorm:
			add(dispatch.RMSNorm(rows, cols, gradient))
		case backends.OpSoftmax:
			add(dispatch.Softmax(rows, cols, 0, gradient))
		case backends.OpActivate:
			add(dispatch.Activate(backends.ReLU2, rows, cols, gradient))
			if all {
				add(dispatch.Activate(backends.SwiGLU, rows, cols, gradient))
			}
		case backends.OpUpdate:
			method := backends.AdamW
			if gradient { // the other one
				method = backends.Momentum
			}
			add(dispatch.Update(method, n))
		default:
			return nil
		}
		if !all {
			break
		}
	}
	return jobs
}

// rowCall does a job of those ops once. In place, what it computes is what it reads the next time: that stays in range.
func (d *data) rowCall(rt *runtime.Runtime, j job) func() (parts int, err error) {
	s := &j.shape
	n, rows, cols, gradient := int(s.N), int(s.M), int(s.K), s.Variant&dispatch.Gradient != 0
	switch s.Op {
	case backends.OpRMSNorm:
		a := runtime.RMSNorm{X: d.x[:n], Cols: cols, Gain: d.y[:cols], Out: d.dst[:n], Scale: make([]float32, rows), Epsilon: 1e-5}
		if gradient {
			a.DY, a.DGain, a.Parts = d.y[:n], make([]float32, cols), make([]float32, (rows+runtime.NormBlock-1)/runtime.NormBlock*cols)
		}
		return func() (int, error) { return 1, rt.RMSNorm(a) }
	case backends.OpSoftmax:
		a := runtime.Softmax{X: d.dst[:n], Cols: cols, Scale: 1, Factor: 1}
		copy(a.X, d.y)
		if gradient { // of equal probabilities and scaled by their number: x less its mean
			a.P, a.Scale = make([]float32, n), float32(cols)
			for i := range a.P {
				a.P[i] = 1 / a.Scale
			}
		}
		return func() (int, error) { return 1, rt.Softmax(a) }
	case backends.OpActivate:
		a := runtime.Activate{Function: runtime.ReLU2, Cols: cols, X: d.x[:n], Out: d.dst[:n]}
		if s.Variant&dispatch.Gated != 0 {
			a.Function, a.X = runtime.SwiGLU, make([]float32, 2*n)
			copy(a.X, d.x)
		}
		if gradient {
			a.DY, a.Out = d.y[:n], make([]float32, len(a.X))
		}
		return func() (int, error) { return 1, rt.Activate(a) }
	}
	a := runtime.Update{Method: runtime.AdamW, Value: d.x[:n], Grad: d.y[:n], M: make([]float32, n), Delta: d.dst[:n], Rate: 1e-3, Decay: 0.1, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Unbias1: 1.1, Unbias2: 1.1}
	if s.Variant&dispatch.Plain != 0 {
		a.Method = runtime.Momentum
	} else {
		a.V = make([]float32, n)
	}
	return func() (int, error) { return 1, rt.Update(a) }
}
