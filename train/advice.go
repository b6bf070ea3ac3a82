// SPDX-License-Identifier: Apache-2.0

package train

import (
	"context"

	"github.com/setun-compute/setun/train/auxnn"
	"github.com/setun-compute/setun/train/optim"
)

// flipTarget is the share of ternary codes that should flip in a step: a thousandth at the beginning, falling with the rate.
const flipTarget = 1e-3

// advise shows the auxiliary network a step, and every few steps what came of its latest decision: the loss of the step's last batch after the step beside that before it. before is that of the last micro-batch.
func (t *trainer) advise(ctx context.Context, r *Record, report *optim.Report, before float64) error {
	if t.aux == nil {
		return nil
	}
	s := auxnn.Signals{Loss: r.Loss, GradNorm: report.GradNorm, Cosine: report.Cosine, StepNorm: report.Norm, ValueNorm: report.ValueNorm}
	if r.Mix == 1 {
		s.FlipShare, s.FlipTarget = r.Flips, flipTarget*r.Rate/t.LearningRate
	}
	t.aux.Watch(s)
	if t.step%t.AuxEvery != 0 {
		return nil
	}
	if t.step > t.AuxEvery { // there is a decision that this step was taken by
		after, err := t.model.Loss(ctx, t.tokens, t.targets, t.Batch, t.Context)
		if err := t.forum.Mean(err, &before, &after); err != nil { // each rank looked at a batch of its own
			return err
		}
		o := auxnn.Outcome{Ratio: (before - after) / report.Predicted, Active: report.Projected > 0, Cosine: report.Cosine, Skip: r.Mix == 1 && r.Flips == 0}
		if err := t.aux.Observe(o); err != nil {
			return err
		}
		r.Aux = &AuxNote{Ratio: o.Ratio}
	} else {
		r.Aux = &AuxNote{}
	}
	f, success := t.aux.Decide(), t.aux.Success()
	r.Aux.RateFactor, r.Aux.RadiusFactor = f.Rate, f.Radius
	r.Aux.Success, r.Aux.Plain, r.Aux.Decrease, r.Aux.Active = success.Controlled, success.Plain, success.Decrease, success.Cooling == 0
	if r.Aux.Ratio-r.Aux.Ratio != 0 { // JSON has no such number
		r.Aux.Ratio = 0
	}
	return nil
}
