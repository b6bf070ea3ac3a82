// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"fmt"
	"math"
	"strings"
)

// Candidate is what an explanation says of one arm.
type Candidate struct {
	Backend     string  `json:"backend"`
	Kernel      string  `json:"kernel"`
	PredictedNs float64 `json:"predicted_ns"`
	SpreadNs    float64 `json:"spread_ns"`
	MovingNs    float64 `json:"moving_ns,omitempty"` // what of the prediction are copies to and from a device
	Samples     int     `json:"samples"`             // 0: from prior knowledge
	Skipped     string  `json:"skipped,omitempty"`   // why it was not eligible
}

// Explanation is a decision with everything that it rests on.
type Explanation struct {
	Op     string      `json:"op"`
	Shape  string      `json:"shape"`
	Chosen string      `json:"chosen"` // "backend/kernel"; empty when no arm can run the call
	Reason string      `json:"reason"`
	Arms   []Candidate `json:"arms"` // in the router's order; never nil
}

// Explain decides as Decide does and says why. The predicted times are those that Decide compared.
func (r *Router) Explain(s Shape, excluded uint64) Explanation {
	d := r.Decide(&s, excluded)
	var away moves
	if s.Op < numOps && r.devices[s.Op] {
		away = r.hosted(&s)
	}
	x := Explanation{Op: s.Op.String(), Shape: s.String(), Reason: d.Reason.String(), Arms: []Candidate{}}
	f := s.features()
	next, runnerUp := math.Inf(1), ""
	for i, a := range r.Arms(s.Op) {
		e := &r.entries[s.Op][i]
		p := r.models[s.Op][i].Predict(s)
		t, _ := r.expects(&s, i, &f)
		c := Candidate{Backend: a.Backend, Kernel: a.Kernel, PredictedNs: t + away.takes[a.Memory], SpreadNs: t * p.Spread / p.Nanos, MovingNs: away.takes[a.Memory], Samples: p.Samples}
		t = c.PredictedNs
		switch {
		case r.allowed[s.Op]&(1<<i) == 0:
			c.Skipped = "the policy forces " + r.policy.Force
		case a.Fast && !s.Fast:
			c.Skipped = "its results are not canonical, and the call did not ask for fast numerics"
		case excluded&(1<<i) != 0:
			c.Skipped = "it failed or is unhealthy"
		case s.Work() < e.from:
			c.Skipped = fmt.Sprintf("the policy admits it from size %.0f", e.from)
		case i != d.Arm && t < next:
			next, runnerUp = t, a.String()
		}
		x.Arms = append(x.Arms, c)
	}
	if d.Arm < 0 {
		return x
	}
	x.Chosen = r.arms[s.Op][d.Arm].String()
	x.Reason = fmt.Sprintf("%s: %s", d.Reason, Duration(d.Nanos))
	if runnerUp != "" {
		x.Reason += fmt.Sprintf(", next best %s with %s (%+.0f %%)", runnerUp, Duration(next), 100*(next/d.Nanos-1))
	}
	if x.Arms[d.Arm].Samples == 0 {
		x.Reason += "; nothing was measured here yet, run: calibrate run"
	}
	return x
}

// String formats the explanation for a terminal.
func (x Explanation) String() string {
	var b strings.Builder
	chosen := x.Chosen
	if chosen == "" {
		chosen = "none"
	}
	fmt.Fprintf(&b, "%s %s → %s\n  %s\n", x.Op, x.Shape, chosen, x.Reason)
	for _, c := range x.Arms {
		mark := " "
		if c.Backend+"/"+c.Kernel == x.Chosen {
			mark = "*"
		}
		source := fmt.Sprintf("%d samples", c.Samples)
		if c.Samples == 0 {
			source = "prior"
		}
		fmt.Fprintf(&b, "%s %-16s %10s ± %-10s %s", mark, c.Backend+"/"+c.Kernel, Duration(c.PredictedNs), Duration(c.SpreadNs), source)
		if c.MovingNs > 0 {
			fmt.Fprintf(&b, ", of which %s moving", Duration(c.MovingNs))
		}
		if c.Skipped != "" {
			fmt.Fprintf(&b, "; not eligible: %s", c.Skipped)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Duration formats nanoseconds with three digits: "21.4 µs".
func Duration(ns float64) string {
	switch {
	case ns < 999.5:
		return fmt.Sprintf("%.3g ns", ns)
	case ns < 999.5e3:
		return fmt.Sprintf("%.3g µs", ns/1e3)
	case ns < 999.5e6:
		return fmt.Sprintf("%.3g ms", ns/1e6)
	}
	return fmt.Sprintf("%.4g s", ns/1e9)
}
