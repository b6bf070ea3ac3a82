// SPDX-License-Identifier: Apache-2.0

package model

import "github.com/setun-compute/setun/runtime"

const (
	// normEpsilon is added to the mean square, as in most models with RMSNorm.
	normEpsilon = 1e-5
	// rowGrain is how many tokens a chunk of a loop has.
	rowGrain = 32
)

// rmsnorm and activate are calls of the runtime's.
func (m *Model) rmsnorm(a runtime.RMSNorm) error {
	a.Epsilon = normEpsilon
	return m.rt.RMSNorm(a)
}

func (m *Model) activate(a runtime.Activate) error {
	if a.Function, a.Cols = runtime.ReLU2, m.c.Hidden; m.c.Activation == SwiGLU {
		a.Function = runtime.SwiGLU
	}
	return m.rt.Activate(a)
}

// normalize adds delta to x, if there is one, which gives sum, and writes the norm of that to y.
func (m *Model) normalize(y, sum, x, delta, scale []float32, gain *Param) error {
	if delta == nil {
		sum = nil // x is it
	}
	return m.rmsnorm(runtime.RMSNorm{X: x, Cols: m.c.Width, Delta: delta, Sum: sum, Gain: gain.Value, Out: y, Scale: scale})
}

// normalizeBackward makes residual the gradient that dy, that of a norm's result, has for the norm's input x, or adds it to that, and adds that for the gain to the gain's.
func (m *Model) normalizeBackward(residual []float32, add bool, dy, x, scale []float32, gain *Param) error {
	n := len(dy) / m.c.Width
	parts := grow(&m.buffers.parts, (n+runtime.NormBlock-1)/runtime.NormBlock*m.c.Width)
	return m.rmsnorm(runtime.RMSNorm{X: x[:len(dy)], Cols: m.c.Width, Gain: gain.Value, Scale: scale[:n], DY: dy, Out: residual, Add: add, DGain: gain.Grad, Parts: parts})
}
