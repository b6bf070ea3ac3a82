// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Figures of an op that is one call, and of k-means.
const (
	figureCall      = "call"
	figureFit       = "fit"       // everything, by the number of iterations
	figureIteration = "iteration" // one of them, without what is around the loop
	figureAssign    = "assign"    // the labels of an iteration
	figureUpdate    = "update"    // iteration − assign
	figureInertia   = "inertia"   // not a time: shows that the work was the same
	figureExact     = "exact"     // not a time: the share of the scores of assign that were computed in the canonical chain
)

// ours is the contender that every other one is compared with: the runtime's own choice.
const ours = "setun"

// times are what one turn measured: nanoseconds by figure.
type times map[string]float64

// contender does one turn when asked.
type contender struct {
	who     string
	own     bool    // a kernel of ours: the same bits
	ceiling bool    // not a program but a bound of the machine
	less    float64 // how far below ours its inertia may lie, relative
	note    string  // the kernel that ran
	turn    func() (times, error)
	turns   []times
}

// figure is what a case reports. The rate is work a nanosecond, in unit.
type figure struct {
	name string
	work float64
	unit string // "GFLOP/s", "GB/s", or "" for a time alone
}

// bench is one op on one shape.
type bench struct {
	op, shape string
	values    int // float32 values that it needs
	quick     bool
	figures   []figure
	// contenders makes what takes turns. done ends what they hold; it is never nil without an error.
	contenders func(e *env) (cs []*contender, done func(), err error)
}

// spread is a median with quartiles.
type spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"q1"`
	High   float64 `json:"q3"`
}

// result is one contender's figure.
type result struct {
	Op      string  `json:"op"`
	Shape   string  `json:"shape"`
	Figure  string  `json:"figure"`
	Who     string  `json:"who"`
	Note    string  `json:"note,omitempty"` // the kernel that ran
	Ceiling bool    `json:"ceiling,omitempty"`
	Turns   int     `json:"turns"`
	NS      spread  `json:"ns"`
	Rate    float64 `json:"rate,omitempty"` // at the median
	Unit    string  `json:"unit,omitempty"`
	Exact   float64 `json:"exact,omitempty"` // share of the scores of assign that were not screened
	Inertia float64 `json:"inertia,omitempty"`
	// Speed is how many times as fast as this contender ours is: the median of the ratios turn by turn.
	Speed *spread `json:"setun_speed,omitempty"`
}

// settle is how long a turn waits for the threads of the one before: those of OpenBLAS spin for some 30 ms before they sleep.
const settle = 50 * time.Millisecond

// compare lets the contenders take turns until there are rounds of them, or more says no; the first round warms up. A contender that fails is
// dropped and told to failed: what is not measured is named, never guessed.
func compare(cs []*contender, rounds int, more func(done int) bool, failed func(who string, err error)) []*contender {
	for r := 0; r <= rounds && (r < 2 || more(r-1)); r++ {
		cs = slices.DeleteFunc(cs, func(c *contender) bool {
			time.Sleep(settle)
			t, err := c.turn()
			if err != nil {
				failed(c.who, err)
				return true
			}
			if r > 0 {
				c.turns = append(c.turns, t)
			}
			return false
		})
	}
	return cs
}

// within allows rounds while the budget lasts, and three in any case.
func within(budget time.Duration) func(int) bool {
	begin := time.Now()
	return func(done int) bool { return done < 3 || time.Since(begin) < budget }
}

// summary turns the turns of a case into results: by figure, then by contender.
func summary(b *bench, cs []*contender) []result {
	var own *contender
	for _, c := range cs {
		if c.who == ours {
			own = c
		}
	}
	var rs []result
	for _, f := range b.figures {
		for _, c := range cs {
			v := column(c, f.name)
			if len(v) == 0 {
				continue
			}
			r := result{Op: b.op, Shape: b.shape, Figure: f.name, Who: c.who, Note: c.note, Ceiling: c.ceiling, Turns: len(v), NS: quartiles(v)}
			if v := column(c, figureExact); len(v) > 0 && f.name == figureAssign {
				r.Exact = quartiles(v).Median
			}
			if v := column(c, figureInertia); len(v) > 0 && f.name == figureFit {
				r.Inertia = v[0]
			}
			if f.unit != "" && r.NS.Median > 0 {
				r.Rate, r.Unit = f.work/r.NS.Median, f.unit
			}
			if own != nil && c != own {
				r.Speed = ratios(v, column(own, f.name))
			}
			rs = append(rs, r)
		}
	}
	return rs
}

// column is one figure over the turns; empty unless each turn has it.
func column(c *contender, figure string) []float64 {
	var v []float64
	for _, t := range c.turns {
		if ns, ok := t[figure]; ok {
			v = append(v, ns)
		}
	}
	if len(v) != len(c.turns) {
		return nil
	}
	return v
}

// ratios divides turn by turn. It is nil when there is nothing to divide, or by nothing: a difference of two times may be 0 or less.
func ratios(theirs, own []float64) *spread {
	if len(own) == 0 || len(own) != len(theirs) || slices.Min(own) <= 0 || slices.Min(theirs) <= 0 {
		return nil
	}
	v := make([]float64, len(own))
	for i := range v {
		v[i] = theirs[i] / own[i]
	}
	s := quartiles(v)
	return &s
}

// quartiles of a sample that is not empty; between two values they lie where their distance says.
func quartiles(v []float64) spread {
	s := slices.Sorted(slices.Values(v))
	at := func(q float64) float64 {
		p := q * float64(len(s)-1)
		i := int(p)
		if i+1 == len(s) {
			return s[i]
		}
		return s[i] + (p-float64(i))*(s[i+1]-s[i])
	}
	return spread{Median: at(0.5), Low: at(0.25), High: at(0.75)}
}

// sameWork is how far apart inertias of the same start after as many iterations may be, relative: beyond it the work was another.
const sameWork = 1e-3

// differ says where an inertia is further from that of the first contender, which is ours, than it may be.
func differ(cs []*contender) error {
	var first *contender
	for _, c := range cs {
		v := column(c, figureInertia)
		if len(v) == 0 {
			continue
		}
		if first == nil {
			first = c
			continue
		}
		a, b := column(first, figureInertia)[0], v[0]
		if c.own && a != b || a-b > c.less*b || math.Abs(a-b) > sameWork*b {
			return fmt.Errorf("%s found inertia %.10g, %s %.10g", first.who, a, c.who, b)
		}
	}
	return nil
}
