// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
)

// Bounds of a shape that is tried again: beyond them pure Go would take too long, or memory.
const (
	mostValues = 1 << 18
	mostWork   = 1 << 26
)

// Again tries kernels on shapes as calls had them. One serves for any number of them, and keeps its memory from one to the next.
type Again struct {
	try  try
	want results
}

// Run has a kernel compute on a shape, after pure Go has. inside is called in between, ahead of the kernel. Of the shapes that are too large for that, and the ops whose shape does not say enough, nothing is
// tried: Trials have shapes of their op.
func (a *Again) Run(b backends.Backend, k backends.Kernel, s dispatch.Shape, inside func()) (tried bool, failures []Failure, err error) {
	c := shaped(s)
	if c == nil || k.Fast && !c.exact {
		return false, nil, nil
	}
	t := &a.try
	c.broken = t.run(cpu.Backend{}, backends.Kernel{Op: k.Op, Name: "go"}, c)
	a.want, t.out = t.out, a.want
	c.want = a.want
	inside()
	detail, err := t.compare(b, k, c)
	if detail != "" {
		failures = append(failures, Failure{k.Op.String(), k.Name, c.shape, detail})
	}
	return true, failures, err
}

// shaped is a trial of a shape, nil for none. The shape may be anything.
func shaped(s dispatch.Shape) *trial {
	within := func(most int64, sizes ...int64) bool {
		product := int64(1)
		for _, n := range sizes {
			if n < 1 || n > most/product {
				return false
			}
			product *= n
		}
		return true
	}
	values := within(mostValues, s.N)
	switch n := int(s.N); s.Op {
	case backends.OpQuantize, backends.OpStep:
		if !values || s.Groups < 1 || s.Groups > s.N {
			return nil
		}
		o := quant.Options{Group: int((s.N + s.Groups - 1) / s.Groups)}
		if s.Op == backends.OpStep {
			return stepTrial(n, o, 1, 1)
		}
		return quantizeTrial(n, o, 1)
	case backends.OpConstrain:
		if values {
			return constrainTrial(n, 1, false)
		}
	case backends.OpDot, backends.OpNorm2:
		if values {
			return reduceTrial(s.Op, n)
		}
	case backends.OpUpdate:
		if values {
			return updateTrial(backends.AdamW, n)
		}
	case backends.OpMatMul:
		if within(mostWork, s.Batch, s.M, s.N, s.K) && within(mostValues, s.Batch, s.M, s.K) && within(mostValues, s.Batch, s.N, s.K) && within(mostValues, s.Batch, s.M, s.N) {
			return matmulTrial(backends.MatMul{M: int(s.M), N: n, K: int(s.K), Batch: int(s.Batch)}, true, small)
		}
	case backends.OpActivations:
		if values && s.M > 0 && s.N%s.M == 0 {
			return activationsTrial(int(s.M), int(s.N/s.M))
		}
	}
	return nil
}
