// SPDX-License-Identifier: Apache-2.0

package data

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/setun-compute/setun/internal/canon"
	setun "github.com/setun-compute/setun/runtime"
)

// Dim is the length of a window's embedding.
const Dim = 64

// ClusterOptions says how windows are clustered.
type ClusterOptions struct {
	Context int    // tokens of a window; windows do not overlap
	K       int    // clusters; 0: Runtime.SuggestK says, which finds 1 in text that has no kinds that stand apart, such as source code: to balance batches all the same, give a number
	MaxK    int    // that SuggestK looks at; 0: 16
	Most    int    // windows that are clustered, evenly spread over the text; 0: 16384
	Seed    uint64 // of k-means
}

// Clusters are the windows of a text by what is in them, the easiest cluster first.
type Clusters struct {
	K          int
	Context    int
	Difficulty []float64 // of each cluster: the mean of its windows'
	Counts     []int     // windows of each, none is 0
	starts     []int     // of windows, cluster by cluster
	span       []int     // K+1 offsets in starts
	tokens     int       // of the text
}

// Windows returns where the windows of cluster c begin, in rising order; nil for a cluster that is not there. It is the clusters' own memory.
func (c *Clusters) Windows(cluster int) []int {
	if cluster < 0 || cluster >= c.K {
		return nil
	}
	return c.starts[c.span[cluster]:c.span[cluster+1]]
}

// Cluster groups the windows of a text by k-means (cosine) over their embeddings, and orders the groups by difficulty. vocabulary is the number of different tokens.
//
// Errors: ErrEmpty, ErrShort, ErrArgument, ErrUnknown for a token beyond the vocabulary, or those of KMeans and SuggestK.
func Cluster(ctx context.Context, rt *setun.Runtime, tokens []int32, vocabulary int, o ClusterOptions) (*Clusters, error) {
	if o.Most == 0 {
		o.Most = 16384
	}
	if o.MaxK == 0 {
		o.MaxK = 16
	}
	if rt == nil || o.K < 0 || o.MaxK < 0 || vocabulary < 1 {
		return nil, fmt.Errorf("data: %d clusters, at most %d, of a vocabulary of %d: %w", o.K, o.MaxK, vocabulary, ErrArgument)
	}
	starts, err := Windows(tokens, o.Context, o.Most)
	if err != nil {
		return nil, err
	}
	if o.K > len(starts) {
		return nil, fmt.Errorf("data: %d clusters of %d windows: %w", o.K, len(starts), ErrArgument)
	}
	hard, err := difficulties(tokens, starts, o.Context, vocabulary)
	if err != nil {
		return nil, err
	}
	points := make([]float32, len(starts)*Dim)
	for i, s := range starts {
		Embed(points[i*Dim:][:Dim], tokens[s:s+o.Context])
	}
	if o.K == 0 {
		s, err := rt.SuggestK(ctx, points, Dim, setun.SuggestOptions{MaxK: min(o.MaxK, len(starts)), Seed: o.Seed})
		if err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
		o.K = s.K
	}
	k, err := rt.KMeans(ctx, nil, points, Dim, setun.KMeansOptions{K: o.K, Seed: o.Seed, Distance: setun.Cosine, MaxIter: 100})
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	return arrange(starts, k.Labels, hard, o, len(tokens)), nil
}

// arrange puts the windows of a cluster side by side and the clusters in order. Clusters without windows, which fewer different windows than K leave, are dropped.
func arrange(starts []int, labels []int32, hard []float64, o ClusterOptions, tokens int) *Clusters {
	type group struct {
		starts []int
		hard   float64
		label  int
	}
	groups := make([]group, o.K)
	for i, l := range labels {
		groups[l].starts = append(groups[l].starts, starts[i])
		groups[l].hard += hard[i]
	}
	for l := range groups {
		groups[l].label = l
		groups[l].hard /= float64(max(1, len(groups[l].starts)))
	}
	groups = slices.DeleteFunc(groups, func(g group) bool { return len(g.starts) == 0 })
	slices.SortFunc(groups, func(a, b group) int {
		switch {
		case a.hard < b.hard:
			return -1
		case a.hard > b.hard:
			return 1
		}
		return a.label - b.label
	})
	c := &Clusters{K: len(groups), Context: o.Context, span: []int{0}, tokens: tokens}
	for _, g := range groups {
		c.starts = append(c.starts, g.starts...)
		c.span = append(c.span, len(c.starts))
		c.Counts, c.Difficulty = append(c.Counts, len(g.starts)), append(c.Difficulty, g.hard)
	}
	return c
}

// Embed sets dst, of Dim values, to the direction of a window: its 1-, 2- and 3-grams hashed into Dim signed counts (feature hashing: Weinberger et al., arXiv 0902.2206), each
// count replaced by the square root of its magnitude with its sign, so that a few frequent grams do not hide the others, and all divided by their norm. A window in which all
// counts cancel is the first unit vector.
func Embed(dst []float32, window []int32) {
	var counts [Dim]int32
	for i := range window {
		h := uint64(0)
		for n := 1; n <= 3 && i+n <= len(window); n++ {
			h = scramble(h + uint64(uint32(window[i+n-1])) + uint64(n)<<40)
			counts[h%Dim] += 1 - int32(h>>62&2) // bit 63 is the sign
		}
	}
	sum := int64(0) // of squares of the square roots
	for _, c := range counts {
		sum += int64(max(c, -c))
	}
	clear(dst[:Dim])
	if sum == 0 {
		dst[0] = 1
		return
	}
	for i, c := range counts {
		v := math.Sqrt(float64(max(c, -c)) / float64(sum))
		if c < 0 {
			v = -v
		}
		dst[i] = float32(v)
	}
}

// scramble is SplitMix64's finalizer (Steele, Lea, Flood, OOPSLA 2014).
func scramble(h uint64) uint64 {
	h += 0x9E3779B97F4A7C15
	h = (h ^ h>>30) * 0xBF58476D1CE4E5B9
	h = (h ^ h>>27) * 0x94D049BB133111EB
	return h ^ h>>31
}

// pairTable is the number of pairs of tokens that are counted apart; beyond it they share counters by their hash.
const pairTable = 1 << 20

// difficulties returns the mean surprise of each window in nats a token, under the pairs of tokens of the whole text: −ln((n(a,b) + 1)/(n(a) + V)), with Laplace's one added to
// each count, V the size of the vocabulary. A compressor's output would say much the same, but its size may change with its version, and with it the batches.
func difficulties(tokens []int32, starts []int, context, vocabulary int) ([]float64, error) {
	for i, t := range tokens {
		if t < 0 || int(t) >= vocabulary {
			return nil, fmt.Errorf("data: token %d = %d is not within 0..%d: %w", i, t, vocabulary-1, ErrUnknown)
		}
	}
	exact := vocabulary <= pairTable/vocabulary
	pair := func(a, b int32) uint64 {
		if exact {
			return uint64(a)*uint64(vocabulary) + uint64(b)
		}
		return scramble(uint64(a)<<32|uint64(b)) % pairTable
	}
	pairs, singles := make([]int32, pairTable), make([]int32, vocabulary)
	for i := range len(tokens) - 1 {
		pairs[pair(tokens[i], tokens[i+1])]++
		singles[tokens[i]]++
	}
	hard, each := make([]float64, len(starts)), make([]float64, context)
	for w, s := range starts {
		for i := range each { // a window has a token after it
			a, b := tokens[s+i], tokens[s+i+1]
			each[i] = canon.Log(float64(int(singles[a])+vocabulary) / float64(pairs[pair(a, b)]+1))
		}
		hard[w] = canon.Sum(each) / float64(context)
	}
	return hard, nil
}
