// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/canon"
)

// stepArgs mirrors setun_step.
type stepArgs struct {
	to           quantizeArgs
	params       *float32
	delta        *float32
	radius, norm float64
	scratch      *float64
}

var stepBlocks = workPool(func(a *stepArgs) *call { return &a.to.call })

// Step calls the kernel's step.
func (b *Backend) Step(k backends.Kernel, a *backends.Step) (err error) {
	x := stepBlocks.Get().(*workBlock[stepArgs])
	common := x.args.to.call
	common.cancel = flag(a.Cancel)
	x.args = stepArgs{
		to: quantizeArgs{call: common}, params: operand(a.Params, a.ParamsAt), delta: operand(a.Delta, a.DeltaAt), radius: a.Radius,
		scratch: x.scratch((len(a.Params)-1)/canon.Chunk + 1),
	}
	p := &x.args.to
	p.describe(a.Dst, a.Rule, a.Seed)
	rc := x.invoke(b, k)
	if a.Norm = x.args.norm; rc == statusNonFinite {
		b.fetch(rc, p.badIndex, a.Delta, a.Params, a.DeltaAt, a.ParamsAt)
		err = a.NonFinite(p.badIndex)
	}
	if rc != statusOK && err == nil {
		err = b.failure(k, rc, &p.call, a.Params, nil)
	}
	common.cancel = nil
	x.args = stepArgs{to: quantizeArgs{call: common}}
	stepBlocks.Put(x)
	return err
}
