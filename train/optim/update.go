// SPDX-License-Identifier: Apache-2.0

package optim

import setun "github.com/setun-compute/setun/runtime"

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

// propose sets every delta to the step of the method, and the moments. Rows that lie side by side in values and in delta are one call.
func (o *Optimizer) propose(c Control) error {
	u := o.opts.update(o.step + 1)
	for i := range o.parts {
		p := &o.parts[i]
		if u.Decay = 0; p.Decay {
			u.Decay = c.Decay
		}
		for g := range p.rate {
			u.Rate = float64(c.Rate * p.rate[g])
			from, to := p.places(g)
			for from < to {
				n := p.run(from, to)
				b, e := p.row(from)*p.Cols, (p.row(from)+n)*p.Cols
				u.Value, u.Grad, u.M, u.Delta = p.Value[b:e], p.Grad[b:e], p.m[b:e], p.delta[from*p.Cols:][:n*p.Cols]
				if p.v != nil {
					u.V = p.v[b:e]
				}
				if err := o.rt.Update(u); err != nil {
					return err
				}
				from += n
			}
		}
	}
	return nil
}

// run returns how many places from one on hold consecutive rows.
func (p *part) run(from, to int) int {
	if p.order == nil {
		return to - from
	}
	n := 1
	for from+n < to && p.order[from+n] == p.order[from]+int32(n) {
		n++
	}
	return n
}
