// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

// part is a tensor with what the optimizer keeps for it, all in row order.
type part struct {
	Tensor
	m, v   []float32 // moments; v of AdamW alone
	delta  []float32 // the latest step
	labels []int32   // the cluster of each row; nil: the tensor is one group
	order  []int32   // the rows of one cluster after those of another; nil with labels
	span   []int64   // K+1 offsets of clusters in values, were rows in that order

	rate, reach          []float64 // factors of each cluster
	radii, limits, norms []float64 // of each cluster in the latest step: of its trust region, by the flip limit (infinite for none), of Δ before either
	before, after        *quant.Tensor
	rows                 []float64 // scratch: a value for each row
}

func (p *part) groups() int { return len(p.span) - 1 }

// row returns the row at a place of the order.
func (p *part) row(place int) int {
	if p.order == nil {
		return place
	}
	return int(p.order[place])
}

// setGroups makes clusters of labels, which it keeps; nil is one group of all rows. Factors become 1.
func (p *part) setGroups(labels []int32, k int) {
	p.labels, p.order, p.span = labels, nil, make([]int64, k+1)
	p.rate, p.reach = make([]float64, k), make([]float64, k)
	p.radii, p.limits, p.norms = make([]float64, k), make([]float64, k), make([]float64, k)
	for c := range k {
		p.rate[c], p.reach[c] = 1, 1
	}
	if labels == nil {
		p.span[k] = int64(len(p.Value))
		return
	}
	for _, l := range labels {
		p.span[l+1]++ // rows so far
	}
	next := make([]int64, k)
	for c := range k {
		p.span[c+1] += p.span[c]
		next[c] = p.span[c]
	}
	p.order = make([]int32, p.Rows)
	for r, l := range labels {
		p.order[next[l]] = int32(r)
		next[l]++
	}
	for c := range p.span {
		p.span[c] *= int64(p.Cols)
	}
}

// places returns those of a cluster in the order of rows.
func (p *part) places(c int) (from, to int) {
	return int(p.span[c]) / p.Cols, int(p.span[c+1]) / p.Cols
}

// square returns Σ θ² of a cluster.
func (p *part) square(c int) float64 {
	from, to := p.places(c)
	for i := from; i < to; i++ {
		r := p.row(i)
		p.rows[i-from] = canon.SumSquares(p.Value[r*p.Cols:][:p.Cols])
	}
	return canon.Sum(p.rows[:to-from])
}

// Recluster makes the clusters of all ternary matrices anew from their values, as Options say, and sets their factors by the rule. Step calls it when it is due; a caller may at
// any time between steps. It allocates. With ByTensor it does nothing.
//
// Errors: those of KMeans and SuggestK, naming the tensor; the clusters of that tensor and of those after it stay as they were.
func (o *Optimizer) Recluster(ctx context.Context) error {
	for i := range o.parts {
		p := &o.parts[i]
		if !p.Ternary || o.opts.Groups == ByTensor || p.Rows < o.opts.MinRows {
			continue
		}
		labels, k := make([]int32, p.Rows), p.Rows
		if o.opts.Groups == ByRow {
			for r := range labels {
				labels[r] = int32(r)
			}
		} else {
			var err error
			if labels, k, err = o.cluster(ctx, i); err != nil {
				return fmt.Errorf("optim: clusters of %s: %w", p.Name, err)
			}
		}
		o.group(p, labels, k)
		if err := o.rt.Home(p.Value); err != nil {
			return fmt.Errorf("optim: clusters of %s: %w", p.Name, err)
		}
		p.relate(o.opts.Factors)
	}
	return nil
}

// group makes clusters of a part, and room to bring its rows into their order.
func (o *Optimizer) group(p *part, labels []int32, k int) {
	if p.setGroups(labels, k); labels != nil && len(o.lined) < len(p.delta) {
		o.lined = make([]float32, len(p.delta))
	}
}

// cluster groups the rows of a matrix by k-means.
func (o *Optimizer) cluster(ctx context.Context, i int) ([]int32, int, error) {
	p := &o.parts[i]
	seed := mix(o.opts.Seed, uint64(o.step), uint64(i))
	k := min(o.opts.K, p.Rows)
	if k == 0 {
		s, err := o.rt.SuggestK(ctx, p.Value, p.Cols, setun.SuggestOptions{MaxK: min(o.opts.MaxK, p.Rows), Seed: seed})
		if err != nil {
			return nil, 0, err
		}
		k = s.K
	}
	c, err := o.rt.KMeans(ctx, nil, p.Value, p.Cols, setun.KMeansOptions{K: k, MaxIter: o.opts.MaxIter, Seed: seed})
	if err != nil {
		return nil, 0, err
	}
	return c.Labels, k, nil
}

// gather copies delta to dst with the rows of a cluster side by side, so that clusters are the segments of span.
func (p *part) gather(dst []float32) []float32 {
	for i, r := range p.order {
		copy(dst[i*p.Cols:][:p.Cols], p.delta[int(r)*p.Cols:])
	}
	return dst[:len(p.delta)]
}

// scatter copies the rows of a cluster back to delta.
func (p *part) scatter(src []float32, c int) {
	for i, to := p.places(c); i < to; i++ {
		copy(p.delta[p.row(i)*p.Cols:][:p.Cols], src[i*p.Cols:])
	}
}

// relate sets factors by the rule.
func (p *part) relate(f Factors) {
	if f != Relative {
		return
	}
	mean := canon.SumSquares(p.Value) / float64(len(p.Value))
	for c := range p.rate {
		n := p.span[c+1] - p.span[c]
		if n == 0 || mean == 0 {
			continue
		}
		r := math.Sqrt(p.square(c) / float64(n) / mean)
		p.rate[c] = min(max(r, 0.5), 2)
		p.reach[c] = p.rate[c]
	}
}

// Group describes the groups of one tensor. Its slices are copies.
type Group struct {
	Name   string
	K      int
	Labels []int32   // of each row; nil: one group of all rows
	Rates  []float64 // learning-rate factors
	Reach  []float64 // radius factors
	Radii  []float64 // of the latest step: the trust region's
	Limits []float64 // of the latest step: by the flip limit; infinite for none
	Norms  []float64 // of the latest step: ‖Δ‖₂ before either
}

// Groups describes the groups of tensor i, in the order that New was given.
func (o *Optimizer) Groups(i int) (Group, error) {
	if i < 0 || i >= len(o.parts) {
		return Group{}, fmt.Errorf("optim: tensor %d of %d: %w", i, len(o.parts), setun.ErrArgument)
	}
	p := &o.parts[i]
	return Group{Name: p.Name, K: p.groups(), Labels: slices.Clone(p.labels), Rates: slices.Clone(p.rate), Reach: slices.Clone(p.reach),
		Radii: slices.Clone(p.radii), Limits: slices.Clone(p.limits), Norms: slices.Clone(p.norms)}, nil
}

// SetFactors sets the factors of a cluster of tensor i on the learning rate and on the radius, until clusters are made anew. Both must be finite and at least 0. Radii stay shares
// of the one radius: only the ratios of their factors matter.
func (o *Optimizer) SetFactors(i, cluster int, rate, reach float64) error {
	if i < 0 || i >= len(o.parts) || cluster < 0 || cluster >= o.parts[i].groups() {
		return fmt.Errorf("optim: cluster %d of tensor %d is not there: %w", cluster, i, setun.ErrArgument)
	}
	if !(rate >= 0 && rate <= math.MaxFloat32) || !(reach >= 0) || math.IsInf(reach, 1) {
		return fmt.Errorf("optim: factors %v and %v: %w", rate, reach, setun.ErrArgument)
	}
	o.parts[i].rate[cluster], o.parts[i].reach[cluster] = rate, reach
	return nil
}

// mix makes one seed of several numbers: SplitMix64's finalizer (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014) over each in turn.
func mix(seed uint64, values ...uint64) uint64 {
	for _, v := range values {
		seed += 0x9E3779B97F4A7C15 + v
		seed = (seed ^ seed>>30) * 0xBF58476D1CE4E5B9
		seed = (seed ^ seed>>27) * 0x94D049BB133111EB
		seed ^= seed >> 31
	}
	return seed
}
