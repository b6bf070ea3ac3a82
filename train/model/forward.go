// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"

	"github.com/setun-compute/setun/runtime"
)

// pass is one way through the network.
type pass struct {
	tokens        []int32
	batch, length int
	keep          bool        // for backward
	cache         [][]float32 // queries, keys and values of each layer, Context rows; nil: those of this pass alone
	past          int         // rows that the cache holds already
	lastOnly      bool        // logits of the last token alone
}

// Forward returns the logits of batch sequences of length tokens each: batch·length rows of Vocab values, in memory that the next call uses again. Row b·length + t depends on tokens 0 … t of sequence b alone.
// A sequence gives the same bits beside any others.
//
// Errors: ErrShape, a *TokenError; those of the runtime (runtime.ErrNonFinite where activations that are to be quantized have run away); ctx's.
func (m *Model) Forward(ctx context.Context, tokens []int32, batch, length int) (logits []float32, err error) {
	if err := m.checkBatch(tokens, nil, batch, length, false); err != nil {
		return nil, err
	}
	if logits, err = m.forward(ctx, &pass{tokens: tokens, batch: batch, length: length}); err != nil {
		return nil, err
	}
	return logits, m.rt.Home(logits)
}

// Loss returns the mean cross entropy, in nats, of targets under the logits of Forward. It is a NaN or an infinity when logits are. Errors: as Forward.
func (m *Model) Loss(ctx context.Context, tokens, targets []int32, batch, length int) (float64, error) {
	if err := m.checkBatch(tokens, targets, batch, length, true); err != nil {
		return 0, err
	}
	logits, err := m.forward(ctx, &pass{tokens: tokens, batch: batch, length: length})
	if err != nil {
		return 0, err
	}
	return m.crossEntropy(logits, targets, 0)
}

// forward is the pass itself, for arguments that have been checked.
func (m *Model) forward(ctx context.Context, p *pass) ([]float32, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := m.fresh(); err != nil {
		return nil, err
	}
	b, c, n := &m.buffers, m.c.Width, len(p.tokens)
	x := grow(&m.layers[0].first, n*c)
	if err := m.rt.Home(m.token.Value, m.position.Value); err != nil {
		return nil, err
	}
	if len(x) < cap(x) { // the rest of its buffer stays
		if err := m.rt.Home(x); err != nil {
			return nil, err
		}
	}
	m.kernels.embed = embedForward{cols: c, length: p.length, past: p.past, tokens: p.tokens, token: m.token.Value, position: m.position.Value, y: x}
	m.workers.run(&m.kernels.embed, n, rowGrain, c)
	m.kernels.embed.tokens = nil // the caller's
	if err := m.rt.Changed(x); err != nil {
		return nil, err
	}
	var delta []float32 // what is still to be added to x
	for i := range m.layers {
		l := &m.layers[i]
		first, normed := grow(&l.first, n*c), grow(&l.firstNorm, n*c)
		if err := m.normalize(normed, first, x, delta, grow(&l.firstScale, n), l.norm1); err != nil {
			return nil, err
		}
		if err := m.attend(ctx, l, p, i); err != nil {
			return nil, err
		}
		delta = grow(&b.delta, n*c)
		if err := l.out.forward(ctx, m, delta, l.mixed[:n*c], n, p.keep); err != nil {
			return nil, err
		}
		second, hidden, active := grow(&l.second, n*c), grow(&l.hidden, n*m.c.up()), grow(&l.active, n*m.c.Hidden)
		normed = grow(&l.secondNorm, n*c)
		if err := m.normalize(normed, second, first, delta, grow(&l.secondScale, n), l.norm2); err != nil {
			return nil, err
		}
		if err := l.up.forward(ctx, m, hidden, normed, n, p.keep); err != nil {
			return nil, err
		}
		if err := m.activate(runtime.Activate{X: hidden, Out: active}); err != nil {
			return nil, err
		}
		if err := l.down.forward(ctx, m, delta, active, n, p.keep); err != nil {
			return nil, err
		}
		x = second
	}
	last := grow(&b.last, n*c)
	normed := grow(&b.lastNorm, n*c)
	if err := m.normalize(normed, last, x, delta, grow(&b.lastScale, n), m.norm); err != nil {
		return nil, err
	}
	if p.lastOnly {
		normed, n = normed[(n-1)*c:], 1
	}
	logits := grow(&b.logits, n*m.c.Vocab)
	if err := m.linearHead(ctx, logits, normed, n); err != nil {
		return nil, err
	}
	return logits, m.mapRoom()
}

// attend goes from layer i's first norm to the results of its heads.
func (m *Model) attend(ctx context.Context, l *layer, p *pass, i int) error {
	c, n := m.c.Width, len(p.tokens)
	keys := p.past + p.length
	var heads []float32
	if p.cache != nil {
		heads = p.cache[i][:keys*3*c]
	} else {
		heads = grow(&l.heads, n*3*c)
	}
	if err := l.qkv.forward(ctx, m, heads[p.past*3*c:], l.firstNorm[:n*c], n, p.keep); err != nil {
		return err
	}
	weights := grow(&l.weights, m.c.Heads*n*keys)
	return m.attentionForward(ctx, grow(&l.mixed, n*c), weights, heads, p.batch, p.length, keys)
}
