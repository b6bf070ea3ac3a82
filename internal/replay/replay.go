// SPDX-License-Identifier: Apache-2.0

// Package replay plays sequences of calls with policies that choose kernels, on times that were measured before or made up: nothing runs. So policies can be compared on the same calls,
// on a machine that is not there.
package replay

import (
	"math"

	"github.com/setun-compute/setun/dispatch"
)

// Policy chooses an arm for each call and is told what it took. It is for one goroutine at a time.
type Policy interface {
	// Choose returns the arm for a call, an index into the op's arms, or −1 if none can run it; probe says that it is run to learn.
	Choose(s *dispatch.Shape) (arm int, probe bool)
	// Observe tells what the call took.
	Observe(o dispatch.Observation)
}

// Game is a sequence of calls with what each arm takes for them.
type Game struct {
	Calls  int
	Shape  func(call int) dispatch.Shape
	Arms   func(call int) int          // how many arms the op has
	Clock  func(call, arm int) float64 // nanoseconds that a clock would show: noise and all
	Price  func(call, arm int) float64 // that the arm is priced with; +Inf for one that cannot run the call
	Oracle func(call int) float64      // the price of the best arm; nil: the lowest
	Ran    func(call, arm int)         // is told each choice; may be nil
}

// Score is how a policy did.
type Score struct {
	Calls     int
	TotalNs   float64   // of what was chosen
	OracleNs  float64   // of the best arm for each call
	SingleNs  []float64 // of each arm, if everything went to it; +Inf for one that cannot run every call
	DearestNs float64   // what the most expensive probe took by the clock beyond the oracle's time
	Geometric float64   // mean of the ratios of the calls: large ones do not hide small ones
	Ratios    []float64 // of each call to the oracle's
}

// Ratio is the total over the oracle's.
func (s *Score) Ratio() float64 { return s.TotalNs / s.OracleNs }

// Mean is the geometric mean of the ratios of calls [from, to).
func (s *Score) Mean(from, to int) float64 {
	sum := 0.0
	for _, x := range s.Ratios[from:to] {
		sum += math.Log(x)
	}
	return math.Exp(sum / float64(max(1, to-from)))
}

// BestSingleNs is the time of the single arm that everything had better gone to.
func (s *Score) BestSingleNs() float64 {
	best := math.Inf(1)
	for _, t := range s.SingleNs {
		best = min(best, t)
	}
	return best
}

// Play plays the game. Calls that no arm can run are left out. Deterministic if the game and the policy are.
func (g *Game) Play(p Policy) Score {
	s := Score{}
	for c := range g.Calls {
		shape := g.Shape(c)
		arm, probe := p.Choose(&shape)
		if arm < 0 {
			continue
		}
		best := math.Inf(1)
		for i := range g.Arms(c) {
			t := g.Price(c, i)
			if i == len(s.SingleNs) {
				s.SingleNs = append(s.SingleNs, 0)
			}
			s.SingleNs[i] += t
			best = min(best, t)
		}
		if g.Oracle != nil {
			best = g.Oracle(c)
		}
		took := g.Price(c, arm)
		if g.Ran != nil {
			g.Ran(c, arm)
		}
		s.Calls++
		s.TotalNs += took
		s.OracleNs += best
		s.Ratios = append(s.Ratios, took/best)
		clock := g.Clock(c, arm)
		if probe {
			s.DearestNs = max(s.DearestNs, clock-best)
		}
		p.Observe(dispatch.Observation{Shape: shape, Arm: arm, Nanos: clock, Parts: 1, Weight: 1, Probe: probe})
	}
	s.Geometric = s.Mean(0, s.Calls)
	return s
}
