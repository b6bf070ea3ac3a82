// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"fmt"
	"math"

	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

// Method is how a gradient becomes a step.
type Method uint8

// The methods. g is the gradient, θ the value, t counts steps from 1, λ is Control.Decay for tensors with Decay and 0 for others.
const (
	// AdamW: m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², Δ = −rate·((m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) + ε) + λθ). Kingma and Ba, arXiv 1412.6980; decoupled decay: Loshchilov and
	// Hutter, arXiv 1711.05101.
	AdamW Method = iota
	// SGD: m ← μm + g, Δ = −rate·(m + λθ).
	SGD
)

// Share is how the radius of a step is divided among its groups. A group is a cluster of rows, or a whole tensor. Σ w_g² = w² always.
type Share uint8

// The shares; f_g is the group's radius factor, 1 unless set.
const (
	BySize Share = iota // w_g² ∝ f_g²·n_g: every value may move as far as any other
	ByNorm              // w_g² ∝ f_g²·(15/16·‖θ_g‖²/‖θ‖² + 1/16·n_g/n): large weights may move further, as in LAMB (arXiv 1904.00962); the sixteenth lets weights that are 0 move
)

// Grouping is what a group is within a ternary matrix. Other tensors are one group each.
type Grouping uint8

// The groupings.
const (
	ByTensor Grouping = iota // all of it
	ByRow                    // each row
	ByKMeans                 // rows that k-means puts together
)

// Factors is the rule for a cluster's learning-rate factor and radius factor when clusters are made. SetFactors changes them.
type Factors uint8

// The rules.
const (
	Even     Factors = iota // 1 and 1
	Relative                // both min(max(rms of the cluster's weights / rms of the matrix's, ½), 2): where weights, and with them thresholds, are larger, steps are
)

// Options says how an Optimizer works. The zero value is AdamW, unclipped.
type Options struct {
	Method       Method
	Beta1, Beta2 float64 // of AdamW; 0: 0.9 and 0.99, which suits small batches better than 0.999
	Eps          float64 // of AdamW; 0: 1e-8
	Momentum     float64 // μ of SGD
	Clip         float64 // ‖g‖₂ at most; 0: no limit

	Share    Share
	Groups   Grouping
	K        int     // clusters of a matrix, at most its rows; 0: Runtime.SuggestK says
	MaxK     int     // that SuggestK looks at; 0: its default, at most 64
	Every    int     // steps after which clusters are made anew; 0: only before the first step
	Factors  Factors // of clusters
	Seed     uint64  // of k-means
	MaxIter  int     // of k-means; 0: 20, enough to group updates
	MinRows  int     // matrices with fewer rows stay one group; 0: 8
	FlipFrom FlipRule
	// FlipFloor is the least share of a group's step that the flip limit leaves, also where more codes flip than wanted then. 0: the limit holds without exception, and a group
	// stands still while more weights than it may flip lie exactly on their thresholds and want to cross.
	FlipFloor float64

	Weights    quant.Options // how the forward pass makes ternary codes: Rule and Group count, Levels must be Ternary or 0
	CountFlips bool          // Report.Flips and the flip limit; quantizes ternary tensors before and after each step
	Unguided   bool          // Report.Cosine and Predicted stay 0: nobody wants them, and they take three reads of each tensor
}

// Control is what may differ from step to step.
type Control struct {
	Rate      float64 // learning rate
	Decay     float64 // λ of decoupled weight decay
	Radius    float64 // w: ‖Δ‖₂ at most; 0 or infinite: no limit
	FlipShare float64 // of a group's ternary codes, how many may flip, at least one code; 0: no limit. Needs Options.CountFlips
}

// Report says what a step did.
type Report struct {
	Step      int     // its number, from 1
	GradNorm  float64 // ‖g‖₂ before clipping
	Clipped   bool
	Update    float64 // ‖Δ‖₂ before the trust region and the flip limit
	Norm      float64 // ‖Δ‖₂ of the step that was taken
	ValueNorm float64 // ‖θ‖₂ after it
	Groups    int
	Projected int     // groups whose step was shortened, for either reason
	Limited   int     // those among them for which the flip limit was the narrower one
	Predicted float64 // −⟨g, Δ⟩ with the unclipped g: what the loss falls by if it is linear
	Cosine    float64 // of g and the previous Δ; 0 in the first step, or when either is 0. Negative when the last step could have been longer
	Codes     int64   // ternary codes, when flips are counted
	Expected  int64   // of these, those that would have flipped had all scales stayed: what FlipShare limits
	Flips     int64   // those that flipped
}

func (o Options) withDefaults() (Options, error) {
	def := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.Beta1, 0.9)
	def(&o.Beta2, 0.99)
	def(&o.Eps, 1e-8)
	if o.MaxIter == 0 {
		o.MaxIter = 20
	}
	if o.MinRows == 0 {
		o.MinRows = 8
	}
	o.Weights = o.Weights.WithDefaults(1)
	bad := func(what string, v any) (Options, error) {
		return o, fmt.Errorf("optim: %s = %v is out of range: %w", what, v, setun.ErrArgument)
	}
	below1 := func(v float64) bool { return v >= 0 && v < 1 }
	switch {
	case o.Method > SGD:
		return bad("method", o.Method)
	case !below1(o.Beta1):
		return bad("beta1", o.Beta1)
	case !below1(o.Beta2):
		return bad("beta2", o.Beta2)
	case !(o.Eps > 0) || math.IsInf(o.Eps, 1):
		return bad("epsilon", o.Eps)
	case !below1(o.Momentum):
		return bad("momentum", o.Momentum)
	case !(o.Clip >= 0):
		return bad("clip", o.Clip)
	case o.Share > ByNorm || o.Groups > ByKMeans || o.Factors > Relative || o.FlipFrom > AnyDirection:
		return bad("share, grouping, factor rule or flip rule", fmt.Sprint(o.Share, o.Groups, o.Factors, o.FlipFrom))
	case o.K < 0 || o.MaxK < 0 || o.Every < 0 || o.MaxIter < 0 || o.MinRows < 0:
		return bad("a count of clustering", fmt.Sprint(o.K, o.MaxK, o.Every, o.MaxIter, o.MinRows))
	case !(o.FlipFloor >= 0 && o.FlipFloor <= 1):
		return bad("flip floor", o.FlipFloor)
	case o.Weights.Levels != quant.Ternary:
		return bad("levels of weights", o.Weights.Levels)
	case o.Weights.Rule == quant.Stochastic || o.Weights.Rule > quant.Stochastic:
		return bad("rule of weights", o.Weights.Rule) // codes drawn at random flip by themselves
	case o.Weights.Group < quant.PerRow:
		return bad("group of weights", o.Weights.Group)
	}
	return o, nil
}

func (c Control) check() error {
	finite := func(v float64) bool { return v >= 0 && !math.IsInf(v, 1) }
	if !finite(c.Rate) || !finite(c.Decay) || !(c.Radius >= 0) || !(c.FlipShare >= 0 && c.FlipShare <= 1) {
		return fmt.Errorf("optim: rate %v, decay %v, radius %v or flip share %v is out of range: %w", c.Rate, c.Decay, c.Radius, c.FlipShare, setun.ErrArgument)
	}
	return nil
}
