// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"fmt"
	"math"
	"strings"

	"github.com/setun-compute/setun/backends"
)

// Candidate is what an explanation says of one arm.
type Candidate struct {
	Backend     string  `json:"backend"`
	Kernel      string  `json:"kernel"`
	PredictedNs float64 `json:"predicted_ns"`
	SpreadNs    float64 `json:"spread_ns"`
	Samples     int     `json:"samples"`           // 0: from prior knowledge
	Skipped     string  `json:"skipped,omitempty"` // why it was not eligible
}

// Explanation is a decision with everything that it rests on.
type Explanation struct {
	Op     string      `json:"op"`
	Shape  string      `json:"shape"`
	Chosen string      `json:"chosen"` // "backend/kernel"; empty when no arm can run the call
	Reason string      `json:"reason"`
	Arms   []Candidate `json:"arms"`
}

// Explain decides as Decide does and says why.
func (r *Router) Explain(s Shape, excluded uint64) Explanation {
	d := r.Decide(&s, excluded)
	x := Explanation{Op: s.Op.String(), Shape: s.String(), Reason: d.Reason.String()}
	next, runnerUp := math.Inf(1), ""
	for i, a := range r.arms[s.Op&7] {
		p := r.models[s.Op&7][i].Predict(s)
		c := Candidate{Backend: a.Backend, Kernel: a.Kernel, PredictedNs: p.Nanos, SpreadNs: p.Spread, Samples: p.Samples}
		from := r.entries[s.Op&7][i].from
		switch {
		case r.allowed[s.Op&7]&(1<<i) == 0:
			c.Skipped = "the policy forces " + r.policy.Force
		case excluded&(1<<i) != 0:
			c.Skipped = "it failed or is unhealthy"
		case s.Work() < from:
			c.Skipped = fmt.Sprintf("the policy admits it from size %.0f", from)
		case i != d.Arm && p.Nanos < next:
			next, runnerUp = p.Nanos, a.String()
		}
		x.Arms = append(x.Arms, c)
	}
	if d.Arm < 0 {
		return x
	}
	chosen := r.arms[s.Op&7][d.Arm]
	x.Chosen = chosen.String()
	x.Reason = fmt.Sprintf("%s: %s", d.Reason, Duration(d.Nanos))
	if runnerUp != "" {
		x.Reason += fmt.Sprintf(", next best %s with %s (+%.0f %%)", runnerUp, Duration(next), 100*(next/d.Nanos-1))
	}
	if x.Arms[d.Arm].Samples == 0 {
		x.Reason += "; nothing was measured here yet, run: calibrate run"
	}
	return x
}

// String formats the explanation for a terminal.
func (x Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s → %s\n  %s\n", x.Op, x.Shape, x.Chosen, x.Reason)
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

// Threshold says that an arm is the fastest from a size on.
type Threshold struct {
	Op   string `json:"op"`
	Arm  string `json:"arm"`
	From int64  `json:"from"` // values; points of 64 values with 64 clusters for kmeans
}

// Thresholds lists from which size each arm wins, over the canonical shapes of an op. One entry means that there is no crossing.
func (r *Router) Thresholds(op backends.Op) []Threshold {
	var list []Threshold
	for i := range 8 * 32 { // eight sizes an octave up to 2^32
		n := math.Round(math.Exp2(float64(i) / 8))
		s := Vector(op, int(n))
		switch op {
		case backends.OpQuantize:
			s.Groups, s.Out = 1, s.N
		case backends.OpKMeans:
			if n < 64 {
				continue
			}
			s = KMeans(int(n), 64, 64)
		}
		d := r.Decide(&s, 0)
		if d.Arm < 0 {
			return nil
		}
		if name := r.arms[op][d.Arm].String(); len(list) == 0 || list[len(list)-1].Arm != name {
			list = append(list, Threshold{op.String(), name, int64(n)})
		}
	}
	return list
}
