// SPDX-License-Identifier: Apache-2.0

package train

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/model"
)

// The schedules by which layers become ternary; "" is all of them together.
const (
	byDepth        = "depth"
	byDepthReverse = "depth-reversed"
	bySensitivity  = "sensitivity"
)

// linearsOfLayer is how many linear layers a block of the transformer has.
const linearsOfLayer = 4

// mix says how ternary the weights are in a step: of all layers together, or on average.
func (c *Config) mix(step int) float32 {
	if !c.Ternary {
		return 0
	}
	begin, over := c.Start*float64(c.Steps), c.Ramp*float64(c.Steps)
	switch at := float64(step) - begin; {
	case at < 0:
		return 0
	case at >= over:
		return 1
	default:
		return float32(at / over)
	}
}

// sensitivity is what the schedule of that name goes by: measured once, at the first step of the ramp, and a part of checkpoints from then on.
type sensitivity struct {
	Cost  []float64 `json:"cost"`  // by linear layer: what it adds to the loss when it alone is ternary, nats a token
	Place []int     `json:"place"` // in the order in which they become ternary; those that cost least are first
}

// mixes sets the λ of each linear layer where together they are at mean. Of n places, each has an n-th of the ramp for itself: place k goes from 0 to 1 while n·mean goes from k to k+1. All are exactly 0 at 0, and 1 at 1.
// Blocks of the transformer have a place each when they go by depth, linear layers when they go by sensitivity; s is needed then, and without it none has begun.
func (c *Config) mixes(dst []float32, mean float32, s *sensitivity) {
	places := len(dst)
	if c.Precision == byDepth || c.Precision == byDepthReverse {
		places = c.Layers
	}
	for i := range dst {
		place := i / linearsOfLayer
		switch {
		case c.Precision == "" || mean == 0 || mean == 1:
			dst[i] = mean
			continue
		case c.Precision == byDepthReverse:
			place = c.Layers - 1 - place
		case c.Precision == bySensitivity && s == nil:
			dst[i] = 0
			continue
		case c.Precision == bySensitivity:
			place = s.Place[i]
		}
		dst[i] = float32(min(1, max(0, float64(float64(mean)*float64(places))-float64(place))))
	}
}

// setMix makes the model's layers as ternary as they are in a step, and returns how ternary they are on average. It measures what the order goes by when that is needed for the first time: parameters must be those that the step begins
// with, so that a run that goes on measures the same.
func (t *trainer) setMix(ctx context.Context, step int) (float32, error) {
	mean := t.mix(step)
	if t.Precision == bySensitivity && t.layers == nil && mean > 0 && mean < 1 {
		if err := t.measure(ctx, step); err != nil {
			return 0, err
		}
	}
	t.mixes(t.lambdas, mean, t.layers)
	return mean, t.model.SetMixes(t.lambdas)
}

// sensitivityBatches is how many batches the cost of a layer is measured on. All layers see the same windows, so what one costs more than another shows with few.
const sensitivityBatches = 4

// measure finds what each linear layer adds to the loss when it alone is ternary. The windows are those of the training text that the step and the ones after it would have, taken from the sampler itself: whoever shares a step's
// windows among several processes still measures the same in each.
func (t *trainer) measure(ctx context.Context, step int) error {
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
	s := &sensitivity{Cost: make([]float64, len(t.lambdas)), Place: make([]int, len(t.lambdas))}
	for i := 0; i < len(s.Cost) && err == nil; i++ {
		var with float64
		t.lambdas[i] = 1
		with, err = loss()
		t.lambdas[i] = 0
		if s.Cost[i] = with - without; err == nil && s.Cost[i]-s.Cost[i] != 0 {
			return fmt.Errorf("%w: step %d: the loss is %v, and %v with %s ternary", ErrDiverged, step+1, without, with, ternaryNames(t.model.Params())[i])
		}
	}
	if errors.Is(err, runtime.ErrNonFinite) {
		err = fmt.Errorf("%w: step %d: %w", ErrDiverged, step+1, err)
	}
	if err != nil {
		return err
	}
	order := make([]int, len(s.Cost))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case s.Cost[a] < s.Cost[b]:
			return -1
		case s.Cost[a] > s.Cost[b]:
			return 1
		}
		return 0
	})
	for place, i := range order {
		s.Place[i] = place
	}
	t.layers = s
	return nil
}

// check returns an error for what cannot be of n linear layers.
func (s *sensitivity) check(n int) error {
	if s == nil {
		return nil
	}
	seen := make([]bool, n)
	for _, p := range s.Place {
		if p < 0 || p >= n || seen[p] {
			return fmt.Errorf("%w: the order of its layers has a place %d where it cannot be", ErrCheckpoint, p)
		}
		seen[p] = true
	}
	if len(s.Place) != n || len(s.Cost) != n {
		return fmt.Errorf("%w: it has an order of %d layers and costs of %d; %d are needed", ErrCheckpoint, len(s.Place), len(s.Cost), n)
	}
	return nil
}

// LayerPrecision says when a linear layer became ternary by the schedule "sensitivity", and why.
type LayerPrecision struct {
	Layer string  `json:"layer"`
	Cost  float64 `json:"cost"`  // nats a token, added to the loss when it alone was ternary, at the first step of the ramp
	Place int     `json:"place"` // from 1
}

// order lists the layers in the order in which they became ternary; nil when it was not measured.
func (s *sensitivity) order(params []*model.Param) []LayerPrecision {
	if s == nil {
		return nil
	}
	list := make([]LayerPrecision, len(s.Place))
	for i, name := range ternaryNames(params) {
		list[s.Place[i]] = LayerPrecision{Layer: name, Cost: s.Cost[i], Place: s.Place[i] + 1}
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
