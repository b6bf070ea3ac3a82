// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"math"

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
	if err := m.rt.Softmax(runtime.Softmax{X: p[:m.c.Heads*batch*length*keys], Cols: keys, Period: length, Scale: m.attentionScale(), Factor: 1}); err != nil {
		return err
	}
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
	all := m.c.Heads * batch * length * length
	if err := m.rt.Softmax(runtime.Softmax{X: dp[:all], P: p[:all], Cols: length, Period: length, Scale: m.attentionScale()}); err != nil {
		return err
	}
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
