// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"math"

	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/runtime"
)

// Causal attention of batch sequences: for each head y = softmax(q·kᵀ/√d + mask)·v, d = Width/Heads. Queries, keys and values of a token are the three thirds of a row of qkv, which holds keys tokens of each sequence, the last
// length of which have queries. Weights are laid out by head, sequence and query, keys each; those of later tokens are 0, which adds nothing to a chain, so that a token's result does not depend on how many follow it.

// attentionForward computes y, Width values for each query, and the weights p. More than one sequence has keys = length.
func (m *Model) attentionForward(ctx context.Context, y, p, qkv []float32, batch, length, keys int) error {
	c, d := m.c.Width, m.c.Width/m.c.Heads
	past := keys - length
	scores := runtime.MatMulOptions{TransB: true, LDA: 3 * c, LDB: 3 * c, Batch: batch, StrideA: keys * 3 * c, StrideB: keys * 3 * c}
	values := runtime.MatMulOptions{LDB: 3 * c, LDC: c, Batch: batch, StrideB: keys * 3 * c, StrideC: length * c}
	heads, q := m.c.Heads, qkv[past*3*c:]
	if batch == 1 && length == 1 { // one product a head: all in one call
		scores.Batch, scores.StrideA, scores.StrideB = heads, d, d
		values.Batch, values.StrideB, values.StrideC = heads, d, d
		heads = 1
	}
	for h := range heads {
		if err := m.matmul(ctx, p[h*batch*length*keys:], q[h*d:], qkv[c+h*d:], length, keys, d, scores); err != nil {
			return err
		}
	}
	m.kernels.softmax = softmaxForward{keys: keys, length: length, scale: m.attentionScale(), x: p}
	m.workers.run(&m.kernels.softmax, m.c.Heads*batch*length, softmaxGrain, 4*keys)
	for h := range heads {
		if err := m.matmul(ctx, y[h*d:], p[h*batch*length*keys:], qkv[2*c+h*d:], length, d, keys, values); err != nil {
			return err
		}
	}
	return nil
}

// attentionBackward computes the gradient of qkv from that of y, for keys = length. dp is room for the gradient of p.
func (m *Model) attentionBackward(ctx context.Context, dqkv, dp, dy, p, qkv []float32, batch, length int) error {
	c, d := m.c.Width, m.c.Width/m.c.Heads
	rows := length * 3 * c
	for h := range m.c.Heads {
		at := h * batch * length * length
		if err := m.matmul(ctx, dp[at:], dy[h*d:], qkv[2*c+h*d:], length, length, d, runtime.MatMulOptions{TransB: true, LDA: c, LDB: 3 * c, Batch: batch, StrideA: length * c, StrideB: rows}); err != nil {
			return err
		}
		if err := m.matmul(ctx, dqkv[2*c+h*d:], p[at:], dy[h*d:], length, d, length, runtime.MatMulOptions{TransA: true, LDB: c, LDC: 3 * c, Batch: batch, StrideB: length * c, StrideC: rows}); err != nil {
			return err
		}
	}
	m.kernels.softmaxBack = softmaxBackward{keys: length, scale: m.attentionScale(), p: p, d: dp}
	m.workers.run(&m.kernels.softmaxBack, m.c.Heads*batch*length, softmaxGrain, 2*length)
	for h := range m.c.Heads {
		at := h * batch * length * length
		if err := m.matmul(ctx, dqkv[h*d:], dp[at:], qkv[c+h*d:], length, d, length, runtime.MatMulOptions{LDB: 3 * c, LDC: 3 * c, Batch: batch, StrideB: rows, StrideC: rows}); err != nil {
			return err
		}
		if err := m.matmul(ctx, dqkv[c+h*d:], dp[at:], qkv[h*d:], length, d, length, runtime.MatMulOptions{TransA: true, LDB: 3 * c, LDC: 3 * c, Batch: batch, StrideB: rows, StrideC: rows}); err != nil {
			return err
		}
	}
	return nil
}

func (m *Model) attentionScale() float32 {
	return float32(1 / math.Sqrt(float64(m.c.Width/m.c.Heads)))
}

// softmaxGrain is how many rows of attention weights a chunk has.
const softmaxGrain = 64

// softmaxForward replaces scores by softmax(scale·scores) over the keys up to the query's own; the others get 0. The greatest score is subtracted first, so no power overflows.
type softmaxForward struct {
	keys, length int
	scale        float32
	x            []float32
}

func (k *softmaxForward) rows(lo, hi int) {
	past := k.keys - k.length
	for r := lo; r < hi; r++ {
		row := k.x[r*k.keys:][:k.keys]
		seen := row[:past+r%k.length+1]
		greatest := seen[0]
		for _, v := range seen {
			greatest = max(greatest, v)
		}
		f := float32(1 / canon.ExpSum(seen, k.scale, greatest))
		for i, e := range seen {
			seen[i] = e * f
		}
		clear(row[len(seen):])
	}
}

// softmaxBackward replaces the gradient d of the weights p by that of the scores before their scale: scale·p·(d − Σ p·d). d of keys after the query is not looked at, and becomes 0.
type softmaxBackward struct {
	keys  int
	scale float32
	p, d  []float32
}

func (k *softmaxBackward) rows(lo, hi int) {
	for r := lo; r < hi; r++ {
		seen := r%k.keys + 1
		row := k.d[r*k.keys:][:k.keys]
		d, p := row[:seen], k.p[r*k.keys:][:seen]
		sum := float32(dotRows(p, d))
		for i, v := range p[:len(d)] {
			d[i] = float32(k.scale*v) * (d[i] - sum)
		}
		clear(row[seen:])
	}
}
