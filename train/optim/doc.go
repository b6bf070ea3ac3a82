// SPDX-License-Identifier: Apache-2.0

// Package optim takes training steps that are constrained and know about quantization.
//
// An [Optimizer] turns the gradients of some tensors into one step Δ, makes it short enough, and adds it:
//
//	o, err := optim.New(rt, tensors, optim.Options{Clip: 1, CountFlips: true})
//	plan := optim.Schedule{Kind: optim.TwoStage, Steps: 2000, Warmup: 100, Peak: 3e-3, Decay: 0.1}
//	for step := range plan.Steps {
//		… forward and backward pass: fill in each tensor's Grad …
//		rate, decay := plan.At(step)
//		report, err := o.Step(ctx, optim.Control{Rate: rate, Decay: decay, Radius: 0.5, FlipShare: 0.01})
//	}
//
// One step, in this order:
//
//  1. Clip: the gradients are scaled so that ‖g‖₂ ≤ Clip truly holds, all tensors taken together ([Clip] does it alone).
//  2. Cluster, every few steps when asked for: the rows of each ternary matrix are grouped by k-means; each group has a learning-rate factor and a radius of its own.
//  3. Δ of AdamW or SGD with momentum; weight decay is a part of it, so that the radius bounds that too.
//  4. Trust region: Δ of each group is projected on a ball. The radii follow from one radius w for the whole step, with Σ w_g² = w², so that ‖Δ‖₂ ≤ w holds in
//     real arithmetic. Nothing is written to what lies inside its ball.
//  5. Flip limit, when asked for: groups of ternary weights get a smaller radius where more codes would flip than wanted ([Control].FlipShare).
//  6. θ ← fl32(θ + Δ).
//
// The [Report] of a step says what happened, and holds what an outer controller wants to know: the decrease that the gradient predicts, the cosine with the previous
// step, expected and actual flips.
//
// A [Compressor] stands apart: it turns gradients into ternary codes for sending, unbiased at random or with error feedback, and counts bytes. A [Schedule] is a pure function of
// the step's number.
//
// Everything is canonical as docs/numerics.md has it: rounded products, sums of one shape. The same gradients give the same bits on any machine with any number of threads.
// States ([Optimizer.State], [Compressor.State]) hold all there is: a run that is resumed from one continues with the same bits.
package optim
