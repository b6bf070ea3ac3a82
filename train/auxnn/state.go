// SPDX-License-Identifier: Apache-2.0

package auxnn

import (
	"fmt"
	"slices"
)

// State is all that a Controller knows, beside its Options. Every number is finite, so that JSON holds it to the bit.
type State struct {
	Weights   []float64 `json:"weights"` // 146
	M         []float64 `json:"m"`       // as many
	V         []float64 `json:"v"`
	AdamSteps int       `json:"adam_steps"`
	Ring      []Sample  `json:"ring"`    // at most 64, in the order of the ring
	Samples   int       `json:"samples"` // ever put there
	Tracker   tracker   `json:"tracker"`
	Pending   bool      `json:"pending"`
	WasPlain  bool      `json:"was_plain"`
	Input     []float64 `json:"input"` // of the latest decision, 6
	Factors   Factors   `json:"factors"`

	Controlled record  `json:"controlled"`
	Plain      record  `json:"plain"`
	Decrease   record  `json:"decrease"`
	Decisions  int     `json:"decisions"`
	Fallbacks  int     `json:"fallbacks"`
	Streak     int     `json:"streak"`
	Cooling    int     `json:"cooling"`
	Loss       float64 `json:"loss"`
}

// Sample is a decision's inputs with the targets that its outcome gave.
type Sample struct {
	Input  [Inputs]float64  `json:"input"`
	Target [Outputs]float64 `json:"target"`
}

// State copies what the controller knows.
func (c *Controller) State() *State {
	s := &State{Weights: slices.Clone(c.net.w[:]), M: slices.Clone(c.net.m[:]), V: slices.Clone(c.net.v[:]), AdamSteps: c.net.t,
		Samples: c.samples, Tracker: c.track, Pending: c.pending, WasPlain: c.plain, Input: slices.Clone(c.x[:]), Factors: c.factors, Controlled: c.outcomes[0], Plain: c.outcomes[1], Decrease: c.decrease,
		Decisions: c.decisions, Fallbacks: c.fallbacks, Streak: c.streak, Cooling: c.cooling, Loss: c.loss}
	for _, r := range c.ring[:min(c.samples, window)] {
		s.Ring = append(s.Ring, Sample{r.x, r.target})
	}
	return s
}

// Load puts the controller into a state that State returned. Errors: ErrState for lengths that do not fit, numbers that are not finite or counts out of range; the controller is as
// before then.
func (c *Controller) Load(s *State) error {
	switch {
	case s == nil:
		return fmt.Errorf("auxnn: there is no state: %w", ErrState)
	case len(s.Weights) != Parameters || len(s.M) != Parameters || len(s.V) != Parameters || len(s.Input) != Inputs:
		return fmt.Errorf("auxnn: %d weights with %d and %d moments, %d inputs: %w", len(s.Weights), len(s.M), len(s.V), len(s.Input), ErrState)
	case s.Samples < 0 || len(s.Ring) != min(s.Samples, window):
		return fmt.Errorf("auxnn: %d decisions of %d: %w", len(s.Ring), s.Samples, ErrState)
	case s.AdamSteps < 0 || s.Decisions < 0 || s.Fallbacks < 0 || s.Streak < 0 || s.Cooling < 0 || s.Cooling > coolMost:
		return fmt.Errorf("auxnn: a negative count, or a cool-down of %d: %w", s.Cooling, ErrState)
	case !s.Controlled.valid() || !s.Plain.valid() || !s.Decrease.valid():
		return fmt.Errorf("auxnn: windows of %d, %d and %d outcomes: %w", s.Controlled.N, s.Plain.N, s.Decrease.N, ErrState)
	case !within(s.Factors.Rate) || !within(s.Factors.Radius):
		return fmt.Errorf("auxnn: factors %v and %v: %w", s.Factors.Rate, s.Factors.Radius, ErrState)
	case !s.Tracker.valid() || !allFinite(s.Weights) || !allFinite(s.M) || !allFinite(s.V) || slices.ContainsFunc(s.V, negative) || !allFinite(s.Input) || !finite(s.Loss):
		return fmt.Errorf("auxnn: a number is not finite, or a variance negative: %w", ErrState)
	}
	for i := range s.Ring {
		if !allFinite(s.Ring[i].Input[:]) || !allFinite(s.Ring[i].Target[:]) {
			return fmt.Errorf("auxnn: decision %d is not finite: %w", i, ErrState)
		}
	}
	copy(c.net.w[:], s.Weights)
	copy(c.net.m[:], s.M)
	copy(c.net.v[:], s.V)
	copy(c.x[:], s.Input)
	c.net.t, c.samples, c.track, c.pending, c.plain, c.factors = s.AdamSteps, s.Samples, s.Tracker, s.Pending, s.WasPlain, s.Factors
	c.ring = [window]sample{}
	for i, r := range s.Ring {
		c.ring[i] = sample{r.Input, r.Target}
	}
	c.outcomes, c.decrease = [2]record{s.Controlled, s.Plain}, s.Decrease
	c.decisions, c.fallbacks, c.streak, c.cooling, c.loss = s.Decisions, s.Fallbacks, s.Streak, s.Cooling, s.Loss
	return nil
}

func negative(v float64) bool { return v < 0 }
func within(f float64) bool   { return f >= lowest && f <= highest }
func allFinite(v []float64) bool {
	return !slices.ContainsFunc(v, func(x float64) bool { return !finite(x) })
}
func (r record) valid() bool { return r.N >= 0 && r.N <= window }
func (m mean) valid() bool   { return m.N >= 0 && finite(m.Value) }
func (s spread) valid() bool { return s.Mean.valid() && s.Variance.valid() }
func anyInvalid(m ...mean) bool {
	return slices.ContainsFunc(m, func(m mean) bool { return !m.valid() })
}
func (t *tracker) valid() bool {
	return finite(t.Last) && allFinite(t.Latest[:]) && !anyInvalid(t.Fast, t.Slow, t.Change, t.Grad, t.Ratio, t.Cosines) &&
		!slices.ContainsFunc(t.Features[:], func(s spread) bool { return !s.valid() })
}
