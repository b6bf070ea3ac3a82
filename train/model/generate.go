// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/runtime"
)

// Generate continues a prompt by n tokens and gives each to emit as it is drawn. temperature 0 takes the most likely one, of equal ones the lowest; otherwise a token is drawn from softmax(logits/temperature) over the topK most
// likely ones, 0 for all. The same arguments give the same tokens everywhere.
//
// Keys and values of earlier tokens are kept, so a token costs one pass of one token, whose logits are those that Forward has, bit for bit. A model with ternary weights and int8 activations multiplies packed codes. Positions end at
// Context: of a longer prompt only the last Context tokens count, and when a text has grown to Context it is read again from the last half of it.
//
// Errors: ErrShape for an empty prompt, a *TokenError, ErrArgument; emit's, which ends the text; as Forward, and runtime.ErrNonFinite for a logit that is a NaN or +Inf.
func (m *Model) Generate(ctx context.Context, prompt []int32, n int, temperature float64, topK int, seed uint64, emit func(int32) error) error {
	switch {
	case len(prompt) == 0:
		return fmt.Errorf("%w: the prompt is empty", ErrShape)
	case n < 0:
		return fmt.Errorf("%w: n = %d", ErrArgument, n)
	case !(temperature >= 0) || math.IsInf(temperature, 1):
		return fmt.Errorf("%w: temperature = %v", ErrArgument, temperature)
	case topK < 0:
		return fmt.Errorf("%w: topK = %d", ErrArgument, topK)
	case emit == nil:
		return fmt.Errorf("%w: emit is nil", ErrArgument)
	}
	if err := m.checkTokens("prompt", prompt); err != nil || n == 0 {
		return err
	}
	window := make([]int32, 0, m.c.Context)
	window = append(window, prompt[max(0, len(prompt)-m.c.Context):]...)
	g := generator{m: m, chances: make([]float64, m.c.Vocab), cache: make([][]float32, m.c.Layers)}
	for i := range g.cache {
		g.cache[i] = make([]float32, m.c.Context*3*m.c.Width)
	}
	for t := range n {
		logits, err := g.read(ctx, window)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(logits, func(v float32) bool { return v-v != 0 && !(v < 0) }); i >= 0 {
			return fmt.Errorf("model: after %d tokens the logit of token %d is %v: %w", t, i, logits[i], runtime.ErrNonFinite)
		}
		next := g.draw(logits, temperature, topK, seed, uint64(t))
		if err := emit(next); err != nil {
			return err
		}
		if len(window) == m.c.Context {
			keep := m.c.Context / 2
			window = window[:copy(window, window[len(window)-keep:])]
			g.done = 0
		}
		window = append(window, next)
	}
	return nil
}

// generator is one text's state.
type generator struct {
	m       *Model
	cache   [][]float32
	done    int // tokens of the window whose keys and values are in the cache
	chances []float64
	heap    []float32
}

// read passes what the cache does not hold of the window, and returns the logits after its last token.
func (g *generator) read(ctx context.Context, window []int32) ([]float32, error) {
	fresh := window[g.done:]
	logits, err := g.m.forward(ctx, &pass{tokens: fresh, batch: 1, length: len(fresh), cache: g.cache, past: g.done, lastOnly: true})
	g.done = len(window)
	if err != nil {
		return nil, err
	}
	return logits, g.m.rt.Home(logits)
}

// draw chooses a token by draw t of the seed.
func (g *generator) draw(logits []float32, temperature float64, topK int, seed, t uint64) int32 {
	best := 0
	for i, v := range logits {
		if v > logits[best] {
			best = i
		}
	}
	if temperature == 0 || topK == 1 {
		return int32(best)
	}
	least := float32(math.Inf(-1))
	if topK > 0 && topK < len(logits) {
		least = g.kth(logits, topK)
	}
	greatest := float64(logits[best])
	sum := 0.0
	for i, v := range logits {
		g.chances[i] = 0
		if v >= least {
			g.chances[i] = canon.Exp((float64(v) - greatest) / temperature)
			sum += g.chances[i]
		}
	}
	left := float64(canon.Choose(seed, t, 1<<53)) * 0x1p-53 * sum
	for i, p := range g.chances {
		if left < p {
			return int32(i)
		}
		left -= p
	}
	return int32(best) // what rounding left over, or logits that are all −∞
}

// kth returns the k-th greatest of x, by a heap of the k greatest so far with the least of them on top.
func (g *generator) kth(x []float32, k int) float32 {
	h := append(g.heap[:0], x[:k]...)
	down := func(i int) {
		for {
			c := 2*i + 1
			if c >= k {
				return
			}
			if c+1 < k && h[c+1] < h[c] {
				c++
			}
			if !(h[c] < h[i]) {
				return
			}
			h[c], h[i] = h[i], h[c]
			i = c
		}
	}
	for i := k/2 - 1; i >= 0; i-- {
		down(i)
	}
	for _, v := range x[k:] {
		if v > h[0] {
			h[0] = v
			down(0)
		}
	}
	g.heap = h
	return h[0]
}
