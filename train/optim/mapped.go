// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"cmp"
	"fmt"

	setun "github.com/setun-compute/setun/runtime"
)

// Map makes buffers of moments and steps (runtime.Runtime.Map), so that they stay on the device where the calls of a step run, beside values and gradients that the caller has mapped. Steps have the same bits.
// What is computed in the program's memory brings home what it needs: factors of clusters on the rate, ByNorm, and the counting and limiting of flips. Close gives the buffers back. Errors: those of runtime.Runtime.Map.
func (o *Optimizer) Map() error {
	if o.mapped != nil {
		return nil
	}
	for i := range o.parts {
		p := &o.parts[i]
		for _, x := range [][]float32{p.m, p.v, p.delta} {
			if x == nil {
				continue
			}
			b, err := o.rt.Map(x)
			if err != nil {
				return cmp.Or(fmt.Errorf("optim: %s: %w", p.Name, err), o.Close())
			}
			o.mapped = append(o.mapped, b)
		}
	}
	return nil
}

// Home brings moments and steps of a mapped optimizer to where State reads them; without Map it does nothing.
func (o *Optimizer) Home() error {
	for i := range o.parts {
		p := &o.parts[i]
		if err := o.rt.Home(p.m, p.v, p.delta); err != nil {
			return fmt.Errorf("optim: %s: %w", p.Name, err)
		}
	}
	return nil
}

// Close brings moments and steps home and gives the buffers of Map back; without Map it does nothing. The optimizer can go on.
func (o *Optimizer) Close() (err error) {
	for _, b := range o.mapped {
		err = cmp.Or(err, b.Close())
	}
	o.mapped = nil
	return err
}

// add adds the step to the values of a part, where they are: on a device as the product of one and the step, one fused multiply-add a value, which rounds as the sum does.
func (o *Optimizer) add(p *part) error {
	if o.mapped != nil {
		_, err := o.rt.MatMul(p.Value, one, p.delta, 1, len(p.delta), 1, setun.MatMulOptions{Accumulate: true})
		return err
	}
	sum := p.Value[:len(p.delta)]
	for i, d := range p.delta {
		sum[i] += d
	}
	return nil
}

var one = []float32{1}
