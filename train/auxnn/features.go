// SPDX-License-Identifier: Apache-2.0

package auxnn

import (
	"math"

	"github.com/setun-compute/setun/internal/canon"
)

// Signals is what a training step tells. The features are
//
//  1. the trend of the loss: (its mean over some 10 steps − over some 50) / mean |change from step to step|
//  2. ln(‖g‖ / its mean over some 10 steps)
//  3. the cosine
//  4. ln(‖Δ‖/‖θ‖ / 10^-3)
//  5. flips / target − 1
//  6. the mean of ρ within [0, 1.5] over some 10 outcomes
//
// Numbers that are not finite, or beyond 10^100, are passed over, so is a norm that is 0: the feature stays as it was.
type Signals struct {
	Loss       float64
	GradNorm   float64 // ‖g‖
	Cosine     float64 // of g and the previous step
	StepNorm   float64 // ‖Δ‖
	ValueNorm  float64 // ‖θ‖
	FlipShare  float64 // of the ternary codes, how many flipped
	FlipTarget float64 // what FlipShare should be; 0: no ternary codes (yet), the feature is 0
}

// The weights of a new value in running means.
const (
	fast     = 0.1  // the loss, lately; and ‖g‖, the ratio ρ
	slow     = 0.02 // the loss, and its mean change
	longest  = 100  // decisions that mean and deviation of a feature look back
	furthest = 3    // deviations at which features are clipped
)

// mean is a running mean that starts with plain averaging: the weight of a value is 1/n, but at least that of the longest memory.
type mean struct {
	N     int     `json:"n"`
	Value float64 `json:"value"`
}

func (m *mean) add(v, weight float64) {
	m.N++
	m.Value += float64(max(weight, 1/float64(m.N)) * (v - m.Value))
}

// spread is a running mean and variance: the mean of (v − mean before)·(v − mean after).
type spread struct {
	Mean     mean `json:"mean"`
	Variance mean `json:"variance"`
}

func (s *spread) add(v float64) {
	before := v - s.Mean.Value
	s.Mean.add(v, 1./longest)
	if s.Mean.N == 1 {
		before = 0
	}
	s.Variance.add(float64(before*(v-s.Mean.Value)), 1./longest)
}

// squash standardises v, clips it at three deviations and brings it into [−1, 1]. What has never differed is 0.
func (s *spread) squash(v float64) float64 {
	d := math.Sqrt(max(0, s.Variance.Value))
	if !(d > 0x1p-40*math.Abs(s.Mean.Value)) || d == 0 {
		return 0
	}
	return max(-1, min(1, (v-s.Mean.Value)/d/furthest))
}

// tracker follows the signals between decisions.
type tracker struct {
	Fast     mean           `json:"fast"`   // loss
	Slow     mean           `json:"slow"`   // loss
	Change   mean           `json:"change"` // |ΔL|
	Last     float64        `json:"last"`   // loss
	Grad     mean           `json:"grad"`   // ‖g‖
	Ratio    mean           `json:"ratio"`  // ρ, within 0 … 1.5
	Cosines  mean           `json:"cosines"`
	Features [Inputs]spread `json:"features"`
	Latest   Raw            `json:"latest"`
}

// Raw are the six features as they are before they are standardised.
type Raw [Inputs]float64

func finite(v float64) bool { return v-v == 0 }

// usable says whether a signal counts: beyond 10^100 sums and squares of it could overflow, and then nothing that is true is said.
func usable(v float64) bool { return math.Abs(v) <= 1e100 }

// tame keeps a feature within what standardising can bear.
func tame(v float64) float64 { return max(-1e6, min(1e6, v)) }

// watch takes the signals of a step. The features of a decision are those of the latest step before it.
func (t *tracker) watch(s Signals) {
	if usable(s.Loss) {
		if t.Fast.N > 0 {
			t.Change.add(math.Abs(s.Loss-t.Last), slow)
		}
		t.Last = s.Loss
		t.Fast.add(s.Loss, fast)
		t.Slow.add(s.Loss, slow)
		if t.Change.Value > 0 {
			t.Latest[0] = tame((t.Fast.Value - t.Slow.Value) / t.Change.Value) // below 0: the loss falls
		}
	}
	if usable(s.GradNorm) && s.GradNorm > 0 {
		t.Grad.add(s.GradNorm, fast)
		t.Latest[1] = canon.Log(s.GradNorm / t.Grad.Value)
	}
	if usable(s.Cosine) {
		t.Latest[2] = tame(s.Cosine)
	}
	if r := s.StepNorm / s.ValueNorm; usable(r) && r > 0 {
		t.Latest[3] = canon.Log(r / 1e-3)
	}
	t.Latest[4] = 0
	if f := s.FlipShare/s.FlipTarget - 1; finite(f) && s.FlipTarget > 0 {
		t.Latest[4] = tame(f)
	}
	t.Latest[5] = t.Ratio.Value
}

// features standardises the latest ones, and lets them count for those to come.
func (t *tracker) features() (x [Inputs]float64) {
	for i := range x {
		t.Features[i].add(t.Latest[i])
		x[i] = t.Features[i].squash(t.Latest[i])
	}
	return x
}
