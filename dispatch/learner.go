// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
)

const (
	// Share is what exploration may cost of the time spent, and allowance what it may cost before any was.
	Share     = 0.01
	allowance = 1e6 // a millisecond

	ageing   = 0.25 // by how much the spread of an arm grows with each doubling of the calls since it was measured
	freshFor = 32   // calls after which that begins
	hopeless = 2    // log: an arm that was measured and is predicted slower than the best by e² is not explored
	novel    = 3    // log: and one that was measured nowhere near, by e³: its prior may be ignorance
	material = 0.03 // log: a cell that moved less, or less than a third of its spread, is not published yet
)

// Observation is one timed call.
type Observation struct {
	Shape  Shape
	Arm    int     // index into Arms(op)
	Nanos  float64 // of a part
	Parts  float64 // equal parts that the call had, as Nanos and predictions count them: iterations of kmeans; at least 1
	Weight float64 // how many calls it stands for; at least 1
	Probe  bool    // it was run to learn, not because it was predicted to be fastest
}

// Probe asks for one call of a size class to be run on an arm that is not the fastest by prediction, to learn.
type Probe struct {
	Op   backends.Op
	Arm  int
	key  key
	fast bool
}

// Fits tells whether a call is one that the probe is for.
func (p *Probe) Fits(s *Shape) bool { return s.Op == p.Op && s.Fast == p.fast && keyOf(s) == p.key }

// Learner turns timed calls into better routers. It is deterministic for the order of calls, knows no clock but their number, and is for one
// goroutine at a time; the routers that it makes are for any number. What it remembers is bounded by the number of cells that a profile may have.
type Learner struct {
	router *Router
	arms   [numOps][]*memory
	now    int64 // calls observed
	cells  int

	spent, explored float64 // nanoseconds: of all calls, and what probes took beyond the best prediction
}

// NewLearner starts from a router, whose models it takes as they are.
func NewLearner(r *Router) *Learner {
	l := &Learner{router: r}
	for op := range l.arms {
		for _, m := range r.models[op] {
			l.arms[op] = append(l.arms[op], &memory{base: Model{m.Coef, slices.Clone(m.Cells)}, recent: map[key]*recent{}})
		}
	}
	return l
}

// Router returns the latest router.
func (l *Learner) Router() *Router { return l.router }

// Exploration returns what probes have cost beyond the best prediction, and all calls, in nanoseconds.
func (l *Learner) Exploration() (cost, all float64) { return l.explored, l.spent }

// Observe learns from a call, and may ask for a probe at its size. The first call of an arm in a variant is not learned: it pays for pages, caches and threads that are being
// started. Calls that are not positive and finite are left out.
func (l *Learner) Observe(o Observation) *Probe {
	op := o.Shape.Op
	if op >= numOps || o.Arm < 0 || o.Arm >= len(l.arms[op]) || !(o.Nanos > 0) || math.IsInf(o.Nanos, 0) {
		return nil
	}
	l.now++
	took := clamp(o.Nanos)
	parts := max(1, o.Parts)
	l.spent += took * parts * max(1, o.Weight)
	best := l.router.Decide(&o.Shape, 0)
	if o.Probe && best.Arm >= 0 {
		l.explored += max(0, took-best.Nanos) * parts
	}
	m, k := l.arms[op][o.Arm], keyOf(&o.Shape)
	if m.begun&(1<<k.variant) == 0 {
		m.begun |= 1 << k.variant
		return l.explore(&o.Shape, parts, best)
	}
	r := m.recent[k]
	if r == nil {
		if l.cells >= maxCells {
			return nil
		}
		l.cells++
		r = new(recent)
		m.recent[k] = r
	}
	f := o.Shape.features()
	log := min(max(math.Log(took/clamp(m.base.Coef.roofline(&f))), -maxLog), maxLog)
	before := r.cell(k, m.expect(k))
	r.add(log, l.now)
	changed := m.drifted(surprise{k, log - before.Log}, before.Spread)
	after := r.cell(k, m.expect(k))
	published := at(cellsOf(&l.router.models[op][o.Arm], k.variant), float64(k.class))
	if changed || math.Abs(after.Log-published.log) > max(material, after.Spread/3) || math.Abs(after.Spread-published.spread) > unknown/2 {
		l.router = l.router.with(op, o.Arm, m.model())
	}
	return l.explore(&o.Shape, parts, l.router.Decide(&o.Shape, 0))
}

func cellsOf(m *Model, v Variant) []Cell {
	cells, _ := m.measured(v)
	return cells
}

// explore chooses an arm to be tried at the size of a call: the one whose time could be furthest below the best prediction, if any could be, and if the budget allows for its being as slow
// as its spread says. The spread grows while an arm is not measured, so that none is left for ever on a few bad calls.
func (l *Learner) explore(s *Shape, parts float64, best Decision) *Probe {
	if best.Arm < 0 || l.router.policy.Force != "" {
		return nil
	}
	op, k := s.Op, keyOf(s)
	work, chosen, lowest := s.Work(), -1, best.Nanos
	for i, m := range l.arms[op] {
		a := l.router.arms[op][i]
		if i == best.Arm || l.router.allowed[op]&(1<<i) == 0 || a.Fast && !s.Fast || work < l.router.entries[op][i].from {
			continue
		}
		p := l.router.models[op][i].Predict(*s)
		spread, seen := p.Spread/p.Nanos, int64(0)
		if r := m.recent[k]; r != nil {
			seen = r.seen
		}
		if age := float64(l.now - seen); age > freshFor {
			spread += ageing * math.Log2(age/freshFor)
		}
		if spread = min(spread, hopeless); !m.near(k) {
			spread = novel
		}
		if optimistic := p.Nanos * math.Exp(-spread); optimistic < lowest && (p.Nanos*math.Exp(min(spread, unmeasured))-best.Nanos)*parts <= l.budget() {
			chosen, lowest = i, optimistic
		}
	}
	if chosen < 0 {
		return nil
	}
	return &Probe{op, chosen, k, s.Fast}
}

// budget is what a probe may cost now.
func (l *Learner) budget() float64 { return allowance + Share*l.spent - l.explored }
