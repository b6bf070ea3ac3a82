// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"context"
	"fmt"
	"math"

	"github.com/setun-compute/setun/runtime"
)

// Backward returns the loss, as Loss does, and adds the gradient of scale times the loss to Param.Grad: scale is 1, or 1/n for the mean over n calls. A latent weight gets the gradient of the weight that multiplied in its
// place, and activations that of their codes (straight-through). After the first call of a size it allocates nothing.
//
// Errors: as Forward, and ErrArgument for a scale that is not a finite number other than 0. After those that are not about arguments gradients are unspecified.
func (m *Model) Backward(ctx context.Context, tokens, targets []int32, batch, length int, scale float32) (loss float64, err error) {
	if err := m.checkBatch(tokens, targets, batch, length, true); err != nil {
		return 0, err
	}
	if s := float64(scale); s == 0 || math.IsNaN(s) || math.IsInf(s, 0) {
		return 0, fmt.Errorf("%w: scale = %v", ErrArgument, scale)
	}
	p := &pass{tokens: tokens, batch: batch, length: length, keep: true}
	logits, err := m.forward(ctx, p)
	if err != nil {
		return 0, err
	}
	if loss, err = m.crossEntropy(logits, targets, float64(scale)/float64(len(targets))); err != nil {
		return 0, err
	}
	return loss, m.backward(ctx, p, logits)
}

// backward adds the gradients of all parameters, from that of the logits, for the latest forward.
func (m *Model) backward(ctx context.Context, p *pass, logits []float32) error {
	b, c, n := &m.buffers, m.c.Width, len(p.tokens)
	residual, row := grow(&b.residual, n*c), grow(&b.row, n*c)
	if err := m.linearHeadBackward(ctx, row, logits, b.lastNorm[:n*c], n); err != nil {
		return err
	}
	if err := m.normalizeBackward(residual, false, row, b.last, b.lastScale, m.norm); err != nil {
		return err
	}
	for i := len(m.layers) - 1; i >= 0; i-- {
		l := &m.layers[i]
		active, hidden := grow(&b.active, n*m.c.Hidden), grow(&b.hidden, n*m.c.up())
		if err := l.down.backward(ctx, m, active, residual, n); err != nil {
			return err
		}
		if err := m.activate(runtime.Activate{X: l.hidden[:len(hidden)], DY: active, Out: hidden}); err != nil {
			return err
		}
		if err := l.up.backward(ctx, m, row, hidden, n); err != nil {
			return err
		}
		if err := m.normalizeBackward(residual, true, row, l.second, l.secondScale, l.norm2); err != nil {
			return err
		}
		if err := l.out.backward(ctx, m, row, residual, n); err != nil {
			return err
		}
		heads := grow(&b.heads, n*3*c)
		if err := m.attentionBackward(ctx, heads, grow(&b.weights, m.c.Heads*n*p.length), row, l.weights, l.heads, p.batch, p.length); err != nil {
			return err
		}
		if err := l.qkv.backward(ctx, m, row, heads, n); err != nil {
			return err
		}
		if err := m.normalizeBackward(residual, true, row, l.first, l.firstScale, l.norm1); err != nil {
			return err
		}
	}
	if err := m.rt.Home(residual, m.token.Grad, m.position.Grad); err != nil {
		return err
	}
	m.kernels.embedBack = embedBackward{cols: c, length: p.length, tokens: p.tokens, token: m.token.Grad, position: m.position.Grad, dy: residual}
	m.workers.run(&m.kernels.embedBack, c, columnGrain, 2*n)
	m.kernels.embedBack.tokens = nil
	return cmp.Or(m.rt.Changed(m.token.Grad, m.position.Grad), m.mapRoom())
}

// linearHead computes logits, rows of Vocab values: products with the head's rows, in float32.
func (m *Model) linearHead(ctx context.Context, logits, x []float32, rows int) error {
	return m.matmul(ctx, logits, x, m.head.Value, rows, m.c.Vocab, m.c.Width, runtime.MatMulOptions{TransB: true})
}

func (m *Model) linearHeadBackward(ctx context.Context, dx, dlogits, x []float32, rows int) error {
	if err := m.matmul(ctx, m.head.Grad, dlogits, x, m.c.Vocab, m.c.Width, rows, runtime.MatMulOptions{TransA: true, Accumulate: true}); err != nil {
		return err
	}
	return m.matmul(ctx, dx, dlogits, m.head.Value, rows, m.c.Width, m.c.Vocab, runtime.MatMulOptions{})
}
