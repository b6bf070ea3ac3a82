// SPDX-License-Identifier: Apache-2.0

package train

import "context"

// The schedules by which layers become ternary; "" is all of them together.
const (
	byDepth        = "depth"
	byDepthReverse = "depth-reversed"
	bySensitivity  = "sensitivity"
	bySuggestion   = "suggested"
)

// measured says whether the order of a schedule is found out in the run.
func measured(precision string) bool { return precision == bySensitivity || precision == bySuggestion }

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

// mixes sets the λ of each linear layer where together they are at mean. Of n places, each has an n-th of the ramp for itself: place k goes from 0 to 1 while n·mean goes from k to k+1. All are exactly 0 at 0, and 1 at 1.
// Blocks of the transformer have a place each when they go by depth, linear layers when their order is measured; o is needed then, and without it none has begun.
func (c *Config) mixes(dst []float32, mean float32, o *ordering) {
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
		case measured(c.Precision) && o == nil:
			dst[i] = 0
			continue
		case measured(c.Precision):
			place = o.Place[i]
		}
		dst[i] = float32(min(1, max(0, float64(float64(mean)*float64(places))-float64(place))))
	}
}

// setMix makes the model's layers as ternary as they are in a step, and returns how ternary they are on average. It measures what the order goes by when that is needed for the first time: parameters must be those that the step begins
// with, so that a run that goes on measures the same.
func (t *trainer) setMix(ctx context.Context, step int) (float32, error) {
	mean := t.mix(step)
	if measured(t.Precision) && t.layers == nil && mean > 0 && mean < 1 {
		if err := t.rank(ctx, step); err != nil {
			return 0, err
		}
	}
	t.mixes(t.lambdas, mean, t.layers)
	return mean, t.model.SetMixes(t.lambdas)
}
