// SPDX-License-Identifier: Apache-2.0

package auxnn

import (
	"errors"
	"fmt"
	"math"

	"github.com/setun-compute/setun/internal/canon"
)

// Sentinels for errors.Is.
var (
	ErrOrder = errors.New("outcome without a decision")
	ErrState = errors.New("state does not fit")
)

// The reach of a decision.
const (
	reach   = 0.7  // of the log factor: factors within [e^-0.7, e^0.7] = [0.497, 2.014]
	change  = 1.1  // of a factor between two controlled decisions
	lowest  = 0.25 // of a factor, whatever else
	highest = 4
)

// The times of the safeguard, in decisions.
const (
	period    = 64 // of which the first
	compared  = 8  // are plain
	coolDown  = 32
	coolMost  = 256
	enough    = 16 // controlled outcomes before they are judged
	succeedAt = 0.25
	succeedTo = 4
	growAt    = 0.75
)

// Options says how a controller behaves. The zero value is usual.
type Options struct {
	Seed        uint64
	Unguarded   bool // no safeguard: it keeps control however it fares. For experiments
	FixedRate   bool // the learning rate's factor stays 1
	FixedRadius bool // the radius' factor stays 1
}

// Factors multiply the plain schedule.
type Factors struct {
	Rate   float64 `json:"rate"`
	Radius float64 `json:"radius"`
}

// Outcome is what came of a decision.
type Outcome struct {
	Ratio  float64 // ρ: actual/predicted decrease of the loss; NaN and infinities are failures
	Active bool    // the step was shortened by its trust region
	Cosine float64 // of the gradient and the step before it
	Skip   bool    // nothing can be said, such as of a ternary step that flipped no code: the decision is forgotten
}

// Success compares outcomes, over at most the last 64 of each kind. Rates are 0 where there are no outcomes.
type Success struct {
	Controlled float64 `json:"controlled"` // share of controlled decisions with ρ in [¼, 4]
	Plain      float64 `json:"plain"`      // share of plain ones
	Decrease   float64 `json:"decrease"`   // share of all with ρ > 0: what always predicting a decrease scores
	Outcomes   [2]int  `json:"outcomes"`   // controlled and plain ones that the rates are taken over
	Decisions  int     `json:"decisions"`  // so far
	Fallbacks  int     `json:"fallbacks"`  // so far
	Cooling    int     `json:"cooling"`    // plain decisions before it resumes; 0: it is in control
}

// Controller steers. It is not for several goroutines at once; Decide and Observe allocate nothing.
type Controller struct {
	o       Options
	net     net
	track   tracker
	ring    [window]sample // of the last decisions
	samples int            // ever put there

	pending bool // a decision waits for its outcome
	plain   bool // which was plain
	x       [Inputs]float64
	factors Factors // of the latest decision

	outcomes  [2]record // controlled, plain
	decrease  record
	decisions int
	fallbacks int
	streak    int // fall-backs since the last full window of control
	cooling   int
	loss      float64
}

// record is a window of outcomes that were good or not.
type record struct {
	Bits uint64 `json:"bits"` // the latest is the lowest
	N    int    `json:"n"`    // at most 64
}

func (r *record) add(good bool) {
	r.Bits <<= 1
	if good {
		r.Bits |= 1
	}
	r.N = min(r.N+1, window)
}

func (r *record) rate() float64 {
	if r.N == 0 {
		return 0
	}
	good := 0
	for i := range r.N {
		good += int(r.Bits >> i & 1)
	}
	return float64(good) / float64(r.N)
}

// New makes a controller whose factors are 1.
func New(o Options) *Controller {
	c := &Controller{o: o, factors: Factors{1, 1}}
	c.net.start(o.Seed)
	return c
}

// Watch takes the signals of a step.
func (c *Controller) Watch(s Signals) { c.track.watch(s) }

// Factors returns those of the latest decision, 1 before the first.
func (c *Controller) Factors() Factors { return c.factors }

// Decide makes the next factors from the signals so far. A decision whose outcome was never told is forgotten.
func (c *Controller) Decide() Factors {
	c.x = c.track.features()
	c.pending = true
	c.plain = c.cooling > 0 || c.decisions%period < compared
	c.decisions++
	if c.cooling > 0 {
		if c.cooling--; c.cooling == 0 {
			c.outcomes[0] = record{} // of the time before: it starts anew
		}
	}
	if c.plain {
		c.factors = Factors{1, 1}
		return c.factors
	}
	_, o := c.net.forward(&c.x)
	c.factors = Factors{limited(c.factors.Rate, o[0]), limited(c.factors.Radius, o[1])}
	if c.o.FixedRate {
		c.factors.Rate = 1
	}
	if c.o.FixedRadius {
		c.factors.Radius = 1
	}
	return c.factors
}

// limited returns the factor of an output, not too far from the last one.
func limited(last, o float64) float64 {
	f := canon.Exp(float64(reach * tanh(o)))
	f = max(last/change, min(last*change, f))
	return max(lowest, min(highest, f))
}

// Observe takes the outcome of the latest decision and learns from it.
//
// Errors: ErrOrder when there is none that waits for its outcome; nothing changes then.
func (c *Controller) Observe(o Outcome) error {
	if !c.pending {
		return fmt.Errorf("auxnn: %w", ErrOrder)
	}
	c.pending = false
	if o.Skip {
		return nil
	}
	ok := finite(o.Ratio)
	good := ok && o.Ratio >= succeedAt && o.Ratio <= succeedTo
	kind := 0
	if c.plain {
		kind = 1
	}
	c.outcomes[kind].add(good)
	c.decrease.add(ok && o.Ratio > 0)

	s := sample{x: c.x, target: c.teach(o)}
	c.ring[c.samples%window] = s
	c.samples++
	c.loss = c.net.learn(c.ring[:min(c.samples, window)])
	c.guard()
	return nil
}

// teach returns the targets of tanh o.
func (c *Controller) teach(o Outcome) (target [Outputs]float64) {
	ratio := 0.0
	if finite(o.Ratio) {
		ratio = max(0, min(1.5, o.Ratio))
	}
	c.track.Ratio.add(ratio, fast)
	if cos := o.Cosine; finite(cos) {
		cos = max(-1, min(1, cos))
		c.track.Cosines.add(float64(cos*cos), slow)
		target[0] = tanh(-cos / max(0.05, math.Sqrt(c.track.Cosines.Value)))
	}
	switch {
	case !(o.Ratio >= succeedAt) || math.IsInf(o.Ratio, 1): // a NaN too
		target[1] = -1
	case o.Ratio > growAt && o.Active:
		target[1] = 1
	}
	return target
}

// guard falls back when the controller does worse than the plain schedule does, by more than chance.
func (c *Controller) guard() {
	a, b := &c.outcomes[0], &c.outcomes[1]
	if c.o.Unguarded || c.cooling > 0 || c.plain || a.N < enough || b.N < compared {
		return
	}
	p, q := a.rate(), b.rate()
	both := (float64(p*float64(a.N)) + float64(q*float64(b.N))) / float64(a.N+b.N)
	deviation := math.Sqrt(float64(both*(1-both)) * (1/float64(a.N) + 1/float64(b.N)))
	if p < q-2*deviation {
		c.cooling = min(coolDown<<min(c.streak, 8), coolMost)
		c.streak++
		c.fallbacks++
		return
	}
	if a.N == window {
		c.streak = 0
	}
}

// Success returns how decisions have fared.
func (c *Controller) Success() Success {
	return Success{Controlled: c.outcomes[0].rate(), Plain: c.outcomes[1].rate(), Decrease: c.decrease.rate(), Outcomes: [2]int{c.outcomes[0].N, c.outcomes[1].N},
		Decisions: c.decisions, Fallbacks: c.fallbacks, Cooling: c.cooling}
}

// Loss returns the network's own, over the last decisions.
func (c *Controller) Loss() float64 { return c.loss }
