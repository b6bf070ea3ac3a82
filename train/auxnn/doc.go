// SPDX-License-Identifier: Apache-2.0

// Package auxnn is a small network that steers a training run while it learns: from six features of the run's state it makes a factor on the learning rate and a factor on the trust radius.
//
//	c := auxnn.New(auxnn.Options{Seed: 1})
//	f := c.Decide()
//	for step := range steps {
//		report, err := optimizer.Step(ctx, optim.Control{Rate: rate * f.Rate, Radius: radius * f.Radius, …})
//		c.Watch(auxnn.Signals{Loss: loss, GradNorm: report.GradNorm, Cosine: report.Cosine, …})   // every step
//		if step%16 == 15 {                                                                        // every few steps
//			… the loss of the same batch before and after the next step …
//			c.Observe(auxnn.Outcome{Ratio: (before - after) / report.Predicted, Active: report.Projected > 0, Cosine: report.Cosine})
//			f = c.Decide()
//		}
//	}
//
// A decision is followed by its outcome: Decide, some steps with its factors, Observe, Decide, … An outcome without a decision is an error.
//
// # The network
//
// 6 → 16 → 2, tanh between, 146 parameters. The last layer starts at 0, so a run begins as its plain schedule. Outputs o give factor = exp(0.7·tanh o), that changes by at most
// 10 % a decision and stays within [¼, 4]. Inputs are standardised by running mean and deviation, clipped at ±3 and divided by 3; [Signals] says what they are.
//
// # What it learns from
//
// ρ = actual/predicted decrease of the loss on the same batch, the ratio of trust-region methods (Conn, Gould, Toint: Trust-Region Methods, 2000, section 6.1). The radius is told
// to fall when ρ < ¼ and to rise when ρ > ¾ and the projection was at work. The learning rate is told to rise when the gradient still points along the last step and to fall when
// it points back, the signal of hypergradient descent (Baydin et al., arXiv 1703.04782): target tanh(−cos/r), r the running root mean square of the cosine, at least 0.05. Loss:
// Huber(tanh o − target) + 10^-3·o², the mean over the last 64 decisions; one step of Adam at 10^-2 after each outcome.
//
// # Whether it helps
//
// A decision succeeds when ρ is finite and within [¼, 4]. That rate says nothing alone: a fixed schedule may have it just as high. So the first 8 of every 64 decisions are
// plain, with factors 1, and [Success] puts the two rates side by side, each over its last 64 outcomes. Beside them is the rate of always predicting a decrease, the share of
// outcomes with ρ > 0: counted over the same outcomes it is never below either, since
// ρ ≥ ¼ implies it, so comparing with it would always fall back; it says how often the loss falls at all.
//
// Safeguard: while the controlled rate is below the plain one by more than two standard errors of their difference, after 16 controlled outcomes at the earliest, decisions are
// plain, at once and for a cool-down of 32 decisions. Each further fall-back in a row doubles the cool-down, up to 256. Outcomes meanwhile are learned from and belong to the plain
// rate; the controlled rate starts empty when it resumes.
//
// Everything follows from the seed and what it was told, with the same bits on every machine. [State] holds all of it.
package auxnn
