// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"fmt"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
)

// linear is y = x·Wᵀ without a bias, W of out rows of in values.
//
// In a ternary model W is what mix makes of the latent weight L and its ternary tensor Q: L + λ·(Q − L). The gradient of W is added to that of L as it is: the straight-through estimator. With QuantizeActivations x is normalized first
// (n = x·r, RMSNorm without gain) and then what mix makes of n and its int8 codes; the gradient passes through the codes as if they were n. At λ = 1 both are integers and the product is the runtime's TernaryMatMul.
type linear struct {
	w       *Param
	none    bool // there is no gradient yet to add to
	in, out int

	mix   float32 // λ
	stale bool    // weight is not mixed as mix says

	weight  []float32     // what multiplies: w.Value, or mixed
	mixed   []float32     // storage of that
	codes   *quant.Tensor // of the latent weight at the latest Refresh; nil in a float32 model
	before  *quant.Tensor // of the Refresh before
	packed  *quant.Tensor // codes, two bits each, for TernaryMatMul
	unready bool          // packed is not of codes yet

	x     []float32 // the latest input, as it came
	hat   []float32 // as it was multiplied; with QuantizeActivations only
	scale []float32 // r of its rows
}

// refresh makes the ternary tensor of the latent weight.
func (l *linear) refresh(m *Model) error {
	l.codes, l.before = l.before, l.codes
	t, err := m.rt.Quantize(l.codes, l.w.Value, quant.Options{Rule: m.c.Rule, Cols: l.in, Group: m.c.Group})
	if err != nil {
		l.codes, l.before = l.before, l.codes
		return fmt.Errorf("%w: %s: %w", ErrLatent, l.w.Name, err)
	}
	l.codes, l.unready = t, true
	return nil
}

// blend makes the weight that multiplies from latent and ternary weights, and with count counts the codes that differ from before.
func (l *linear) blend(m *Model, count bool) (flips int, err error) {
	k := &m.kernels.mix
	*k = mixWeights{cols: l.in, latent: l.w.Value, q: l.codes, mix: l.mix, flips: grow(&m.flipParts, (l.out-1)/mixGrain+1)}
	if l.weight, l.stale = l.w.Value, false; l.mix > 0 {
		l.weight = grow(&l.mixed, len(l.w.Value))
		k.out = l.weight
	}
	if count {
		k.before = l.before
	}
	if k.out == nil && !count {
		return 0, nil
	}
	if l.mix > 0 && l.mix < 1 {
		err = m.rt.Home(k.latent)
	}
	if err != nil {
		return 0, err
	}
	m.workers.run(k, l.out, mixGrain, l.in)
	for _, n := range k.flips {
		flips += n
	}
	return flips, m.rt.Changed(k.out)
}

// integers says whether products are of codes alone.
func (l *linear) integers(m *Model) bool { return m.c.QuantizeActivations && l.mix == 1 }

// forward computes y, rows of l.out values, from as many rows of x. What backward needs is kept, except that with keep false the input's values are not, where the product does not need them itself.
func (l *linear) forward(ctx context.Context, m *Model, y, x []float32, rows int, keep bool) error {
	l.x = x
	if l.codes == nil || !m.c.QuantizeActivations {
		return m.matmul(ctx, y, x, l.weight, rows, l.out, l.in, runtime.MatMulOptions{TransB: true})
	}
	hat := grow(&l.hat, rows*l.in)
	if err := m.rmsnorm(runtime.RMSNorm{X: x[:rows*l.in], Cols: l.in, Out: hat, Scale: grow(&l.scale, rows)}); err != nil {
		return err
	}
	if l.mix > 0 {
		_, err := m.rt.QuantizeActivations(&m.int8s, hat, l.in)
		if err != nil {
			return fmt.Errorf("model: input of %s: %w", l.w.Name, err)
		}
		if l.integers(m) {
			return l.multiplyCodes(ctx, m, y, hat, rows, keep)
		}
		m.kernels.int8s = mixActivations{cols: l.in, codes: &m.int8s, x: hat, mix: l.mix}
		if err := m.mixInt8s(rows, l.in); err != nil {
			return err
		}
	}
	return m.matmul(ctx, y, hat, l.weight, rows, l.out, l.in, runtime.MatMulOptions{TransB: true})
}

// multiplyCodes computes y out of m.int8s and the weight's codes. With keep hat becomes what the int8 codes stand for.
func (l *linear) multiplyCodes(ctx context.Context, m *Model, y, hat []float32, rows int, keep bool) error {
	if err := l.pack(m); err != nil {
		return err
	}
	if err := m.ternary(ctx, y, l.packed); err != nil || !keep {
		return err
	}
	m.kernels.int8s = mixActivations{cols: l.in, codes: &m.int8s, x: hat, mix: 1}
	return m.mixInt8s(rows, l.in)
}

// mixInt8s runs the loop that m.kernels.int8s says.
func (m *Model) mixInt8s(rows, cols int) error {
	k := &m.kernels.int8s
	if err := m.rt.Home(k.x); err != nil {
		return err
	}
	m.workers.run(k, rows, rowGrain, cols)
	return m.rt.Changed(k.x)
}

// pack makes packed out of codes, once after a Refresh.
func (l *linear) pack(m *Model) error {
	if !l.unready {
		return nil
	}
	t, err := m.rt.Convert(l.packed, l.codes, quant.Bits2)
	if err != nil {
		return fmt.Errorf("model: %s: %w", l.w.Name, err)
	}
	l.packed, l.unready = t, false
	return nil
}

// backward adds dyᵀ·x to the weight's gradient and computes dx = dy·W for the latest forward's input.
func (l *linear) backward(ctx context.Context, m *Model, dx, dy []float32, rows int) error {
	inner := l.codes != nil && m.c.QuantizeActivations
	x := l.x
	if inner {
		x = l.hat
	}
	if err := m.matmul(ctx, l.w.Grad, dy, x, l.out, l.in, rows, runtime.MatMulOptions{TransA: true, Accumulate: !l.none}); err != nil {
		return err
	}
	l.none = false
	if err := m.matmul(ctx, dx, dy, l.weight, rows, l.in, l.out, runtime.MatMulOptions{}); err != nil || !inner {
		return err
	}
	return m.rmsnorm(runtime.RMSNorm{X: l.x[:rows*l.in], Cols: l.in, Scale: l.scale[:rows], DY: dx[:rows*l.in], Out: dx[:rows*l.in]})
}

// mixGrain is how many rows of a weight a chunk has.
const mixGrain = 16

// mixWeights computes out = L + λ·(Q − L) and counts how many codes differ from those before.
type mixWeights struct {
	cols      int
	latent    []float32
	q, before *quant.Tensor // before may be nil: nothing is counted
	mix       float32
	out       []float32 // nil: nothing is computed
	flips     []int     // by chunk
}

func (k *mixWeights) rows(lo, hi int) {
	k.flips[lo/mixGrain] = 0
	if k.before != nil {
		now := k.q.Codes[lo*k.cols : hi*k.cols]
		was := k.before.Codes[lo*k.cols:][:len(now)]
		n := 0
		for i, c := range now {
			if c != was[i] {
				n++
			}
		}
		k.flips[lo/mixGrain] = n
	}
	if k.out == nil {
		return
	}
	group, each := k.cols, k.q.Group
	if each > 0 {
		group = each
	}
	scales := quant.ScaleCount(1, k.cols, each)
	for r := lo; r < hi; r++ {
		for at := 0; at < k.cols; at += group {
			s := k.q.Scales[0]
			if each > 0 {
				s = k.q.Scales[r*scales+at/group]
			}
			from, to := r*k.cols+at, r*k.cols+min(at+group, k.cols)
			codes := k.q.Codes[from:to]
			out := k.out[from:to][:len(codes)]
			if k.mix == 1 {
				for i, c := range codes {
					out[i] = s * float32(c)
				}
				continue
			}
			for i, v := range k.latent[from:to][:len(codes)] {
				out[i] = v + float32(k.mix*(float32(s*float32(codes[i]))-v))
			}
		}
	}
}

// mixActivations replaces x by x + λ·(Q(x) − x), Q(x) being what its int8 codes stand for.
type mixActivations struct {
	cols  int
	codes *quant.Activations
	x     []float32
	mix   float32
}

func (k *mixActivations) rows(lo, hi int) {
	for r := lo; r < hi; r++ {
		x, s := k.x[r*k.cols:][:k.cols], k.codes.Scales[r]
		codes := k.codes.Codes[r*k.cols:][:len(x)]
		if k.mix == 1 {
			for i, c := range codes {
				x[i] = s * float32(c)
			}
			continue
		}
		for i, c := range codes {
			x[i] += float32(k.mix * (float32(s*float32(c)) - x[i]))
		}
	}
}
