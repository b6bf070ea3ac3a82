// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"slices"

	setun "github.com/setun-compute/setun/runtime"
)

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

// update is the runtime's argument for step t, without the tensors, rate and decay.
func (o *Options) update(t int) setun.Update {
	if o.Method == SGD {
		return setun.Update{Method: setun.Momentum, Beta1: o.Momentum}
	}
	return setun.Update{Method: setun.AdamW, Beta1: o.Beta1, Beta2: o.Beta2, Epsilon: o.Eps, Unbias1: 1 / (1 - power(o.Beta1, t)), Unbias2: 1 / (1 - power(o.Beta2, t))}
}

// propose sets every delta to the step of the method, and the moments. Clusters differ by a factor on their rows' steps alone, so one call does for a tensor.
func (o *Optimizer) propose(c Control) error {
	u := o.opts.update(o.step + 1)
	for i := range o.parts {
		p := &o.parts[i]
		if u.Decay = 0; p.Decay {
			u.Decay = c.Decay
		}
		if u.Rate = c.Rate; p.order == nil {
			u.Rate = float64(c.Rate * p.rate[0])
		}
		u.Value, u.Grad, u.M, u.V, u.Delta = p.Value, p.Grad, p.m, p.v, p.delta
		if err := o.rt.Update(u); err != nil {
			return err
		}
		if p.order == nil {
			continue
		}
		if !slices.ContainsFunc(p.rate, func(f float64) bool { return float32(f) != 1 }) {
			continue
		}
		if err := o.rt.Home(p.delta); err != nil {
			return err
		}
		p.scale()
		if err := o.rt.Changed(p.delta); err != nil {
			return err
		}
	}
	return nil
}

// scale multiplies the step of each cluster's rows by the cluster's factor on the rate.
func (p *part) scale() {
	for r, l := range p.labels {
		if f := float32(p.rate[l]); f != 1 {
			multiply(p.delta[r*p.Cols:][:p.Cols], f)
		}
	}
}

// multiply is written out for eight values: the compiler neither unrolls nor vectorises, and all weights pass through here in each step.
func multiply(v []float32, f float32) {
	for len(v) >= 8 {
		p := (*[8]float32)(v)
		p[0] *= f
		p[1] *= f
		p[2] *= f
		p[3] *= f
		p[4] *= f
		p[5] *= f
		p[6] *= f
		p[7] *= f
		v = v[8:]
	}
	for i := range v {
		v[i] *= f
	}
}
