// SPDX-License-Identifier: Apache-2.0

package optim

import "math"

// smallest is the least magnitude that moments keep. A moment that decays to a subnormal would stay there for ever, since β times the last unit rounds to itself, and slow every
// step down.
const smallest = 0x1p-126

func flush(x float32) float32 {
	if x < smallest && x > -smallest {
		return 0
	}
	return x
}

// power returns b^t by squaring: a fixed order of multiplications, where math.Pow differs between machines.
func power(b float64, t int) float64 {
	r := 1.0
	for ; t > 0; t >>= 1 {
		if t&1 == 1 {
			r = float64(r * b)
		}
		b = float64(b * b)
	}
	return r
}

// rule holds the constants of a step. All arithmetic is float64, rounded to float32 where it is stored; products that feed an addition are rounded on their own.
type rule struct {
	method       Method
	beta1, beta2 float64
	eps          float64
	unbias1      float64 // 1/(1−β₁ᵗ)
	unbias2      float64
	momentum     float64
}

func (o *Options) rule(t int) rule {
	return rule{method: o.Method, beta1: o.Beta1, beta2: o.Beta2, eps: o.Eps, momentum: o.Momentum,
		unbias1: 1 / (1 - power(o.Beta1, t)), unbias2: 1 / (1 - power(o.Beta2, t))}
}

// row advances the moments of one row by its gradient and sets delta to the step. rate and decay are those of the row.
func (r *rule) row(delta, value, grad, m, v []float32, rate, decay float64) {
	m, value, grad = m[:len(delta)], value[:len(delta)], grad[:len(delta)]
	if r.method == SGD {
		for i := range delta {
			u := flush(float32(float64(r.momentum*float64(m[i])) + float64(grad[i])))
			m[i] = u
			delta[i] = float32(-rate * (float64(u) + float64(decay*float64(value[i]))))
		}
		return
	}
	v = v[:len(delta)]
	for i := range delta {
		g := float64(grad[i])
		m1 := flush(float32(float64(r.beta1*float64(m[i])) + float64((1-r.beta1)*g)))
		m2 := flush(float32(float64(r.beta2*float64(v[i])) + float64((1-r.beta2)*float64(g*g))))
		m[i], v[i] = m1, m2
		u := float64(float64(m1)*r.unbias1) / (math.Sqrt(float64(float64(m2)*r.unbias2)) + r.eps)
		delta[i] = float32(-rate * (u + float64(decay*float64(value[i]))))
	}
}
