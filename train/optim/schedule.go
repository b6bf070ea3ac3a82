// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"fmt"
	"math"

	setun "github.com/setun-compute/setun/runtime"
)

// Kind is the shape of a Schedule.
type Kind uint8

// The kinds. All begin with Warmup steps of rising rate.
const (
	// Cosine falls from Peak to Final along half a cosine; the decay stays.
	Cosine Kind = iota
	// TwoStage is BitNet's recipe (b1.58: arXiv 2402.17764 and its training notes; 2B4T: arXiv 2504.12285): linear from Peak to Middle in the first half, then linear from Second
	// to Final, without weight decay.
	TwoStage
	// Linear falls in a straight line from Peak to Final; the decay stays.
	Linear
	// Constant stays at Peak.
	Constant
)

// Schedule gives learning rate and weight decay of each step. At is a pure function: nothing is to be saved.
type Schedule struct {
	Kind   Kind
	Steps  int     // of the run
	Warmup int     // steps; step s of them has the rate Peak·(s+1)/Warmup
	Peak   float64 // the highest rate
	Middle float64 // TwoStage: the rate at the end of the first half; 0: 8/15 of Peak, as 1.5e-3 to 8e-4
	Second float64 // TwoStage: the rate at the beginning of the second half; 0: a third of Peak, as 5e-4
	Final  float64 // the rate that the last step comes near to
	Decay  float64 // weight decay
}

// Check says whether the schedule is one. Errors: ErrArgument.
func (s Schedule) Check() error {
	finite := func(v float64) bool { return v >= 0 && !math.IsInf(v, 1) }
	switch {
	case s.Kind > Constant:
		return fmt.Errorf("optim: schedule of kind %d: %w", s.Kind, setun.ErrArgument)
	case s.Steps < 1 || s.Warmup < 0 || s.Warmup > s.Steps:
		return fmt.Errorf("optim: schedule of %d steps, %d of them warm-up: %w", s.Steps, s.Warmup, setun.ErrArgument)
	case s.Kind == TwoStage && s.Warmup > s.Steps/2:
		return fmt.Errorf("optim: a warm-up of %d steps is longer than the first of two stages of %d: %w", s.Warmup, s.Steps, setun.ErrArgument)
	case !finite(s.Peak) || !finite(s.Middle) || !finite(s.Second) || !finite(s.Final) || !finite(s.Decay):
		return fmt.Errorf("optim: schedule with rates %v, %v, %v, %v and decay %v: %w", s.Peak, s.Middle, s.Second, s.Final, s.Decay, setun.ErrArgument)
	}
	return nil
}

// At returns learning rate and weight decay of a step, counted from 0. Steps past the end are like the last.
func (s Schedule) At(step int) (rate, decay float64) {
	step = max(0, min(step, s.Steps-1))
	half := s.Steps / 2
	decay = s.Decay
	if s.Kind == TwoStage && step >= half {
		decay = 0
	}
	if step < s.Warmup {
		return float64(s.Peak*float64(step+1)) / float64(s.Warmup), decay
	}
	share := func(from, to int) float64 { return float64(step-from) / float64(max(1, to-from)) }
	line := func(a, b, p float64) float64 { return float64(a*(1-p)) + float64(b*p) }
	switch s.Kind {
	case Cosine:
		return line(s.Final, s.Peak, (1+cosPi(share(s.Warmup, s.Steps)))/2), decay
	case TwoStage:
		middle, second := s.Middle, s.Second
		if middle == 0 {
			middle = s.Peak * 8 / 15
		}
		if second == 0 {
			second = s.Peak / 3
		}
		if step < half {
			return line(s.Peak, middle, share(s.Warmup, half)), decay
		}
		return line(second, s.Final, share(half, s.Steps)), decay
	case Linear:
		return line(s.Peak, s.Final, share(s.Warmup, s.Steps)), decay
	}
	return s.Peak, decay
}

// cosPi returns cos(πx) for x in [0, 1], the same bits on every machine, by Taylor's series within a quarter of a turn's half: |πx| ≤ π/4, where ten terms leave less than 2^-60.
func cosPi(x float64) float64 {
	switch {
	case x > 0.5:
		return -cosPi(1 - x)
	case x > 0.25:
		return sinPi(0.5 - x)
	}
	z := float64(float64(math.Pi*x) * float64(math.Pi*x))
	r := 0.0
	for k := 20; k > 0; k -= 2 { // cos y = 1 − y²/(1·2)·(1 − y²/(3·4)·(…
		r = float64(z / float64(k*(k-1)) * (1 - r))
	}
	return 1 - r
}

// sinPi returns sin(πx) for x in [0, ¼].
func sinPi(x float64) float64 {
	y := float64(math.Pi * x)
	z := float64(y * y)
	r := 0.0
	for k := 21; k > 1; k -= 2 {
		r = float64(z / float64(k*(k-1)) * (1 - r))
	}
	return float64(y * (1 - r))
}
