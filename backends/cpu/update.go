// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"math"

	"github.com/setun-compute/setun/backends"
)

// Update advances the moments by a gradient and makes the step.
func (Backend) Update(_ backends.Kernel, a *backends.Update) error {
	n := len(a.Value)
	value, grad, m, delta := a.Value[:n], a.Grad[:n], a.M[:n], a.Delta[:n]
	if a.Method == backends.Momentum {
		for i, p := range value {
			u := flush(float32(float64(a.Beta1*float64(m[i])) + float64(grad[i])))
			m[i] = u
			delta[i] = float32(-a.Rate * (float64(u) + float64(a.Decay*float64(p))))
		}
		return nil
	}
	v := a.V[:n]
	b1, b2, c1, c2 := a.Beta1, a.Beta2, 1-a.Beta1, 1-a.Beta2
	for i, p := range value {
		g := float64(grad[i])
		m1 := flush(float32(float64(b1*float64(m[i])) + float64(c1*g)))
		m2 := flush(float32(float64(b2*float64(v[i])) + float64(c2*float64(g*g))))
		m[i], v[i] = m1, m2
		u := float64(float64(m1)*a.Unbias1) / (math.Sqrt(float64(float64(m2)*a.Unbias2)) + a.Epsilon)
		delta[i] = float32(-a.Rate * (u + float64(a.Decay*float64(p))))
	}
	return nil
}

// flush is +0 for what is less than the smallest normal number in magnitude.
func flush(x float32) float32 {
	if x < 0x1p-126 && x > -0x1p-126 {
		return 0
	}
	return x
}
