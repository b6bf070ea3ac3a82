// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"unsafe"

	"github.com/setun-compute/setun/backends"
)

// Flags of rmsnorm, softmax and activate.
const (
	flagGradient = 1
	flagAdd      = 2
)

// normArgs mirrors setun_rmsnorm.
type normArgs struct {
	call
	flags, _           uint32
	rows, cols         int64
	x, delta, gain, dy *float32
	out, sum, scale    *float32
	dgain, parts       *float32
	epsilon            float64
}

// softmaxArgs mirrors setun_softmax.
type softmaxArgs struct {
	call
	flags, _           uint32
	rows, cols, period int64
	p, x               *float32
	stats              *float64
	factor             float64
	scale              float32
	_                  uint32
}

// activateArgs mirrors setun_activate.
type activateArgs struct {
	call
	kind, flags uint32
	rows, cols  int64
	x, dy, out  *float32
}

// updateArgs mirrors setun_update.
type updateArgs struct {
	call
	method, _                                            uint32
	n                                                    int64
	value, grad, m, v, delta                             *float32
	rate, decay, beta1, beta2, epsilon, unbias1, unbias2 float64
}

var (
	normBlocks     = pool(func(a *normArgs) *call { return &a.call })
	softmaxBlocks  = pool(func(a *softmaxArgs) *call { return &a.call })
	activateBlocks = pool(func(a *activateArgs) *call { return &a.call })
	updateBlocks   = pool(func(a *updateArgs) *call { return &a.call })
)

// RMSNorm calls the kernel's rmsnorm.
func (b *Backend) RMSNorm(k backends.Kernel, a *backends.RMSNorm) (err error) {
	x := normBlocks.Get().(*block[normArgs])
	p := &x.args
	common := p.call
	*p = normArgs{
		call: common, rows: int64(a.Rows()), cols: int64(a.Cols), x: operand(a.X, a.XAt), delta: operand(a.Delta, a.DeltaAt), gain: operand(a.Gain, a.GainAt), dy: operand(a.DY, a.DYAt),
		out: operand(a.Out, a.OutAt), sum: operand(a.Sum, a.SumAt), scale: operand(a.Scale, a.ScaleAt), dgain: operand(a.DGain, a.DGainAt), parts: unsafe.SliceData(a.Parts), epsilon: a.Epsilon,
	}
	if a.DY != nil {
		p.flags = flagGradient
	}
	if a.Add {
		p.flags |= flagAdd
	}
	if rc := x.invoke(b, k); rc != statusOK {
		err = b.failure(k, rc, &p.call, a.X, nil)
	}
	*p = normArgs{call: common}
	normBlocks.Put(x)
	return err
}

// Softmax calls the kernel's softmax.
func (b *Backend) Softmax(k backends.Kernel, a *backends.Softmax) (err error) {
	x := softmaxBlocks.Get().(*block[softmaxArgs])
	p := &x.args
	common := p.call
	*p = softmaxArgs{
		call: common, rows: int64(a.Rows()), cols: int64(a.Cols), period: int64(a.Period), p: operand(a.P, a.PAt), x: operand(a.X, a.XAt), stats: unsafe.SliceData(a.Stats),
		factor: a.Factor, scale: a.Scale,
	}
	if a.P != nil {
		p.flags = flagGradient
	}
	if rc := x.invoke(b, k); rc != statusOK {
		err = b.failure(k, rc, &p.call, a.X, nil)
	}
	*p = softmaxArgs{call: common}
	softmaxBlocks.Put(x)
	return err
}

// Activate calls the kernel's activate.
func (b *Backend) Activate(k backends.Kernel, a *backends.Activate) (err error) {
	x := activateBlocks.Get().(*block[activateArgs])
	p := &x.args
	common := p.call
	*p = activateArgs{call: common, kind: uint32(a.Function), rows: int64(a.Rows()), cols: int64(a.Cols), x: operand(a.X, a.XAt), dy: operand(a.DY, a.DYAt), out: operand(a.Out, a.OutAt)}
	if a.DY != nil {
		p.flags = flagGradient
	}
	if rc := x.invoke(b, k); rc != statusOK {
		err = b.failure(k, rc, &p.call, a.X, nil)
	}
	*p = activateArgs{call: common}
	activateBlocks.Put(x)
	return err
}

// Update calls the kernel's update.
func (b *Backend) Update(k backends.Kernel, a *backends.Update) (err error) {
	x := updateBlocks.Get().(*block[updateArgs])
	p := &x.args
	common := p.call
	*p = updateArgs{
		call: common, method: uint32(a.Method), n: int64(len(a.Value)), value: operand(a.Value, a.ValueAt), grad: operand(a.Grad, a.GradAt), m: operand(a.M, a.MAt), v: operand(a.V, a.VAt),
		delta: operand(a.Delta, a.DeltaAt), rate: a.Rate, decay: a.Decay, beta1: a.Beta1, beta2: a.Beta2, epsilon: a.Epsilon, unbias1: a.Unbias1, unbias2: a.Unbias2,
	}
	if rc := x.invoke(b, k); rc != statusOK {
		err = b.failure(k, rc, &p.call, a.Value, nil)
	}
	*p = updateArgs{call: common}
	updateBlocks.Put(x)
	return err
}
