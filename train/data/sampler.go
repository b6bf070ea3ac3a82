// SPDX-License-Identifier: Apache-2.0

package data

import (
	"fmt"

	"github.com/setun-compute/setun/internal/canon"
)

// Order is how a batch is composed when windows are clustered.
type Order uint8

// The orders. Without Clusters every window of the text is equally likely.
const (
	Proportional Order = iota // window i of a batch of B comes from the i-th B-th of all windows, clusters side by side: each cluster has its share of every batch, to one window
	RoundRobin                // clusters take turns from window to window: small ones are seen as often as large ones
)

// SamplerOptions says what batches are made of.
type SamplerOptions struct {
	Context int    // tokens of a window
	Batch   int    // windows
	Seed    uint64 // of the draws

	Clusters *Clusters // of this text; nil: none
	Order    Order
	Jitter   int // with Clusters: a window begins up to so many tokens after the clustered one, so that texts are not always cut at the same places
	// Ramp is the step from which all clusters are used; before it, only the easiest: First of them at step 0, then linearly more, at least one. 0: all from the start.
	Ramp  uint64
	First float64
}

// Sampler draws batches. It does not change once made, and may be shared.
type Sampler struct {
	o      SamplerOptions
	tokens []int32
}

// maxBatch bounds a batch, so that step and index make one counter.
const maxBatch = 1 << 20

// NewSampler makes a sampler of windows of a text, which it keeps. A window has Context tokens and one more, its last target.
//
// Errors: ErrEmpty, ErrShort when no window fits, ErrArgument.
func NewSampler(tokens []int32, o SamplerOptions) (*Sampler, error) {
	switch {
	case o.Context < 1 || o.Batch < 1 || o.Batch > maxBatch:
		return nil, fmt.Errorf("data: batches of %d windows of %d tokens: %w", o.Batch, o.Context, ErrArgument)
	case o.Jitter < 0 || o.Order > RoundRobin || !(o.First >= 0 && o.First <= 1):
		return nil, fmt.Errorf("data: jitter %d, order %d or first share %v: %w", o.Jitter, o.Order, o.First, ErrArgument)
	}
	if err := fits(tokens, o.Context); err != nil {
		return nil, err
	}
	if c := o.Clusters; c != nil {
		if c.tokens != len(tokens) || c.Context < o.Context {
			return nil, fmt.Errorf("data: clusters of windows of %d in %d tokens, for windows of %d in %d: %w", c.Context, c.tokens, o.Context, len(tokens), ErrArgument)
		}
	}
	return &Sampler{o: o, tokens: tokens}, nil
}

// fits says whether a text has a window.
func fits(tokens []int32, context int) error {
	switch {
	case len(tokens) == 0:
		return fmt.Errorf("data: %w", ErrEmpty)
	case len(tokens) <= context:
		return fmt.Errorf("data: %d tokens, a window of %d needs one more: %w", len(tokens), context, ErrShort)
	}
	return nil
}

// Start returns where window index of the batch of a step begins. The draw is canon.Choose with the counter step·2^20 + index: nothing before it matters.
func (s *Sampler) Start(step uint64, index int) int {
	draw := func(n, salt uint64) uint64 { return canon.Choose(s.o.Seed^salt, step<<20|uint64(index), n) }
	last := len(s.tokens) - s.o.Context // windows begin below it
	c := s.o.Clusters
	if c == nil {
		return int(draw(uint64(last), 0))
	}
	k := s.clusters(step)
	var at int // place among the windows, which lie cluster by cluster, easy ones first
	if s.o.Order == RoundRobin {
		turn := int((step*uint64(s.o.Batch) + uint64(index)) % uint64(k))
		from, to := c.span[turn], c.span[turn+1]
		at = from + int(draw(uint64(to-from), 0))
	} else {
		n := c.span[k]
		from, to := index*n/s.o.Batch, (index+1)*n/s.o.Batch
		at = from + int(draw(uint64(max(1, to-from)), 0))
	}
	start := c.starts[at]
	if s.o.Jitter > 0 {
		start += int(draw(uint64(s.o.Jitter)+1, 0x6a6974746572))
	}
	return min(start, last-1)
}

// clusters returns how many may be used at a step: the easiest.
func (s *Sampler) clusters(step uint64) int {
	k := s.o.Clusters.K
	if step >= s.o.Ramp {
		return k
	}
	share := s.o.First + float64((1-s.o.First)*(float64(step)/float64(s.o.Ramp)))
	return max(1, min(k, int(share*float64(k))))
}

// Batch returns the batch of a step: Batch windows of Context tokens side by side, and as many targets, which are the tokens after them. The slices are used again when they are large enough.
func (s *Sampler) Batch(step uint64, inputs, targets []int32) (in, out []int32) {
	n := s.o.Context
	in, out = sized(inputs, s.o.Batch*n), sized(targets, s.o.Batch*n)
	for i := range s.o.Batch {
		at := s.Start(step, i)
		copy(in[i*n:][:n], s.tokens[at:])
		copy(out[i*n:][:n], s.tokens[at+1:])
	}
	return in, out
}

func sized(s []int32, n int) []int32 {
	if cap(s) < n {
		return make([]int32, n)
	}
	return s[:n]
}

// Windows returns where windows to evaluate on begin: they do not overlap, and are evenly spread over the text when there are more than most; 0 for all. A last piece that is too
// short for a window is left out.
//
// Errors: ErrEmpty, ErrShort, ErrArgument.
func Windows(tokens []int32, context, most int) ([]int, error) {
	if context < 1 || most < 0 {
		return nil, fmt.Errorf("data: %d windows of %d tokens: %w", most, context, ErrArgument)
	}
	if err := fits(tokens, context); err != nil {
		return nil, err
	}
	n := (len(tokens) - 1) / context
	count := n
	if most > 0 {
		count = min(n, most)
	}
	starts := make([]int, count)
	for i := range starts {
		starts[i] = i * n / count * context
	}
	return starts, nil
}
