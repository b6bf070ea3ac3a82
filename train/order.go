// SPDX-License-Identifier: Apache-2.0

package train

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/model"
)

// ordering is what a schedule goes by whose order is measured: found out once, at the first step of the ramp, and a part of checkpoints from then on.
type ordering struct {
	Cost  []float64 `json:"cost"`  // by linear layer: what it costs that it is ternary
	Place []int     `json:"place"` // in the order in which they become ternary; those that cost least are first
}

// rank finds the order of the schedule.
func (t *trainer) rank(ctx context.Context, step int) error {
	find := t.measure
	if t.Precision == bySuggestion {
		find = t.suggest
	}
	costs, err := find(ctx, step)
	if errors.Is(err, runtime.ErrNonFinite) {
		err = fmt.Errorf("%w: step %d: %w", ErrDiverged, step+1, err)
	}
	if err == nil {
		t.layers = ordered(costs)
	}
	return err
}

// ordered puts those that cost least first; of equals the one nearer to the input.
func ordered(costs []float64) *ordering {
	o := &ordering{Cost: costs, Place: make([]int, len(costs))}
	order := make([]int, len(costs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(costs[a], costs[b]) })
	for place, i := range order {
		o.Place[i] = place
	}
	return o
}

// suggest takes for the cost of a linear layer the mean squared error of a value that SuggestPrecision expects of it in ternary. That is the order, too, in which a budget of bits that shrinks makes it choose ternary for them,
// since what a bit saves in error goes with the same spread.
func (t *trainer) suggest(ctx context.Context, _ int) ([]float64, error) {
	var costs []float64
	for _, p := range t.model.Params() {
		if !p.Ternary {
			continue
		}
		// One cluster about 0: codes are of the weights themselves, not of what a mean leaves of them.
		all := &runtime.Clustering{K: 1, Dim: p.Cols, Labels: make([]int32, p.Rows), Centroids: make([]float32, p.Cols)}
		plan, err := t.rt.SuggestPrecision(ctx, p.Value, p.Cols, all, runtime.PrecisionOptions{MaxBits: runtime.PrecisionTernary.Bits()})
		if err != nil {
			return nil, fmt.Errorf("precision of %s: %w", p.Name, err)
		}
		costs = append(costs, plan.Clusters[0].Error)
	}
	return costs, nil
}

// sensitivityBatches is how many batches the cost of a layer is measured on. All layers see the same windows, so what one costs more than another shows with few.
const sensitivityBatches = 4

// measure finds what each linear layer adds to the loss when it alone is ternary. The windows are those of the training text that the step and the ones after it would have, taken from the sampler itself: whoever shares a step's
// windows among several processes still measures the same in each.
func (t *trainer) measure(ctx context.Context, step int) ([]float64, error) {
	n := t.Batch * t.Context
	tokens, targets := make([]int32, n), make([]int32, n)
	loss := func() (float64, error) {
		sum := 0.0
		if err := t.model.SetMixes(t.lambdas); err != nil {
			return 0, err
		}
		for i := range sensitivityBatches {
			t.text.train.Batch(uint64(step)*uint64(t.text.all)+uint64(i), tokens, targets)
			l, err := t.model.Loss(ctx, tokens, targets, t.Batch, t.Context)
			if err != nil {
				return 0, err
			}
			sum += l / sensitivityBatches
		}
		return sum, nil
	}
	clear(t.lambdas)
	without, err := loss()
	costs := make([]float64, len(t.lambdas))
	for i := 0; i < len(costs) && err == nil; i++ {
		var with float64
		t.lambdas[i] = 1
		with, err = loss()
		t.lambdas[i] = 0
		if costs[i] = with - without; err == nil && costs[i]-costs[i] != 0 {
			return nil, fmt.Errorf("%w: step %d: the loss is %v, and %v with %s ternary", ErrDiverged, step+1, without, with, ternaryNames(t.model.Params())[i])
		}
	}
	return costs, err
}

// check returns an error for what cannot be of n linear layers.
func (o *ordering) check(n int) error {
	if o == nil {
		return nil
	}
	seen := make([]bool, n)
	for _, p := range o.Place {
		if p < 0 || p >= n || seen[p] {
			return fmt.Errorf("%w: the order of its layers has a place %d where it cannot be", ErrCheckpoint, p)
		}
		seen[p] = true
	}
	if len(o.Place) != n || len(o.Cost) != n {
		return fmt.Errorf("%w: it has an order of %d layers and costs of %d; %d are needed", ErrCheckpoint, len(o.Place), len(o.Cost), n)
	}
	return nil
}

// LayerPrecision says when a linear layer became ternary by a schedule whose order is measured, and why.
type LayerPrecision struct {
	Layer string  `json:"layer"`
	Cost  float64 `json:"cost"`  // at the first step of the ramp. By "sensitivity": nats a token, added to the loss when it alone was ternary; by "suggested": the mean squared error of a weight that SuggestPrecision expected
	Place int     `json:"place"` // from 1
}

// order lists the layers in the order in which they became ternary; nil when it was not measured.
func (o *ordering) order(params []*model.Param) []LayerPrecision {
	if o == nil {
		return nil
	}
	list := make([]LayerPrecision, len(o.Place))
	for i, name := range ternaryNames(params) {
		list[o.Place[i]] = LayerPrecision{Layer: name, Cost: o.Cost[i], Place: o.Place[i] + 1}
	}
	return list
}

// ternaryNames are those of the linear layers, in the order of their λ.
func ternaryNames(params []*model.Param) (names []string) {
	for _, p := range params {
		if p.Ternary {
			names = append(names, p.Name)
		}
	}
	return names
}
