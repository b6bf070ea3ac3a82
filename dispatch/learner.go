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

	ageing     = 0.25 // by how much the spread of an arm grows with each doubling of the calls since it was measured
	freshFor   = 256  // calls after which that begins
	worthwhile = 0.95 // of the best prediction: an arm that could be faster by less is not explored
	again      = 64   // calls after which an arm that has drifted is looked at again
	nearly     = 4    // half octaves around a size that will do for that
	around     = 4    // how many times as long the largest of those takes
	sure       = 2    // standard deviations by which an arm may be faster than it is believed to be
	hopeless   = 3    // log: an arm that is predicted slower than the best by e³ is not explored
	material   = 0.03 // log: a cell that moved less is not published yet
	commonly   = 0.08 // nor one of what all arms have in common, which changes no choice
	wide       = 0.1  // nor one whose spread did
	slowly     = 4    // what the arms have in common is published by so small a part of the way that a sudden change stays a surprise for some calls
	patience   = 32   // calls of an op until what its arms have in common is nothing special
)

// Observation is one timed call.
type Observation struct {
	Shape  Shape
	Arm    int     // index into Arms(op)
	Nanos  float64 // of a part
	Moving float64 // what of Nanos were copies to and from a device, as the decision had it: models are of calls without
	Parts  float64 // equal parts that the call had, as Nanos and predictions count them: iterations of kmeans; at least 1
	Weight float64 // how many calls it stands for; at least 1
	Probe  bool    // it was run to learn, not because it was predicted to be fastest
	Calm   bool    // calls of the arm that were as predicted, and are not observed, came before this one: what is observed is no streak
}

// Probe asks for one call of a size class to be run on an arm that is not the fastest by prediction, to learn.
type Probe struct {
	Op   backends.Op
	Arm  int
	key  key
	near int // classes around the key's that will do
	fast bool
	gain float64 // how many times as fast as the best the arm may be
}

// Over tells whether the probe should take the place of another that still waits for a call; q may be nil.
func (p *Probe) Over(q *Probe) bool { return p != nil && (q == nil || p.gain > q.gain) }

// Fits tells whether a call is one that the probe is for.
func (p *Probe) Fits(s *Shape) bool {
	k := keyOf(s)
	return s.Op == p.Op && s.Fast == p.fast && k.variant == p.key.variant && max(k.class-p.key.class, p.key.class-k.class) <= p.near
}

// Learner turns timed calls into better routers. It is deterministic for the order of calls, knows no clock but their number, and is for one
// goroutine at a time; the routers that it makes are for any number. What it remembers is bounded by the number of cells that a profile may have.
type Learner struct {
	router *Router
	arms   [numOps][]*memory
	now    int64 // calls observed
	cells  int

	drifts []Drift // that nobody has taken yet

	usual   [numOps]float64 // what the arms of an op have had in common lately
	beliefs [maxArms]belief // of the class that was weighed last

	spent, explored float64 // nanoseconds: of all calls, and what probes took beyond the best prediction
}

// NewLearner starts from a router, whose models it takes as they are.
func NewLearner(r *Router) *Learner {
	l := &Learner{router: r}
	for op := range l.arms {
		for i, m := range r.models[op] {
			_, known := expected[level(r.arms[op][i])]
			l.arms[op] = append(l.arms[op], &memory{base: Model{m.Coef, slices.Clone(m.Cells)}, strange: !known})
			l.cells += len(m.Cells)
		}
	}
	return l
}

// Router returns the latest router.
func (l *Learner) Router() *Router { return l.router }

// Exploration returns what probes have cost beyond the best prediction, and all calls, in nanoseconds.
func (l *Learner) Exploration() (cost, all float64) { return l.explored, l.spent }

// Drift says that an arm has become slower, or faster, for all sizes of an op.
type Drift struct {
	Op     backends.Op
	Arm    int
	Factor float64 // of its time
}

// maxDrifts are kept for TakeDrifts.
const maxDrifts = 64

// TakeDrifts returns the drifts since it was last called.
func (l *Learner) TakeDrifts() []Drift {
	list := l.drifts
	l.drifts = nil
	return list
}

// Spend tells of calls that are not observed, and their time: the budget of exploration grows with it, and what was learned grows old.
func (l *Learner) Spend(calls int64, nanos float64) {
	if calls > 0 && nanos > 0 && !math.IsInf(nanos, 0) {
		l.now += calls
		l.spent += nanos
	}
}

// Observe learns from a call, and may ask for a probe at its size. The first call of an arm in a variant is not learned: it pays for pages, caches and threads that are being
// started. Calls beside others are not learned from. Calls that are not positive and finite are left out.
func (l *Learner) Observe(o Observation) *Probe {
	op := o.Shape.Op
	if op >= numOps || o.Arm < 0 || o.Arm >= len(l.arms[op]) || !(o.Nanos > 0) || math.IsInf(o.Nanos, 0) {
		return nil
	}
	l.now += int64(max(1, min(o.Weight, 1e6)))
	took, moving := clamp(o.Nanos), 0.0
	if o.Moving > 0 && l.router.devices[op] {
		moving = min(o.Moving, took-minNanos)
	}
	parts := max(1, o.Parts)
	l.spent += took * parts * max(1, o.Weight)
	if o.Shape.Variant&Beside != 0 {
		return nil
	}
	if o.Probe {
		l.arms[op][o.Arm].looked = l.now
		if best := l.router.Decide(&o.Shape, 0); best.Arm >= 0 {
			l.explored += max(0, took-best.Nanos) * parts
		}
	}
	m, k := l.arms[op][o.Arm], keyOf(&o.Shape)
	if o.Calm {
		m.run = m.run[:0]
	}
	if m.begun&(1<<k.variant) != 0 {
		l.learn(&o.Shape, o.Arm, k, took-moving)
	}
	m.begun |= 1 << k.variant
	return l.explore(&o.Shape, parts, k)
}

// learn puts a call into its cell, and publishes what follows.
func (l *Learner) learn(s *Shape, arm int, k key, took float64) {
	m := l.arms[s.Op][arm]
	r, i := m.find(k)
	if r == nil {
		if l.cells >= maxCells {
			return
		}
		l.cells++
		m.recent[k.variant] = slices.Insert(m.recent[k.variant], i, recent{class: k.class})
		r = &m.recent[k.variant][i]
	}
	f := s.features()
	log := min(max(math.Log(took/clamp(m.base.Coef.roofline(&f))), -maxLog), maxLog)
	r.add(log, l.now)
	m.compare(k.variant, r)
	was := lookup(&l.router.models[s.Op][arm], k)
	moved := m.moved
	if d := m.drifts(surprise{k, log - was.log - l.usual[s.Op]}, was.spread, l.now); d != steady {
		if by := m.moved - moved; by != 0 && len(l.drifts) < maxDrifts {
			l.drifts = append(l.drifts, Drift{s.Op, arm, math.Exp(by)})
		}
		l.warn(s.Op, arm, d == returned, m.moved-moved)
		l.redraw(s.Op)
	}
	l.publish(s.Op, k)
	l.usual[s.Op] += (l.router.together(s.Op, k) - l.usual[s.Op]) / patience
}

// warn tells of drift: what was measured of the other arms of the op counts for little now, since all may have changed, and those that drifted with an arm come back with it.
// And the same kernel has probably drifted in other ops.
func (l *Learner) warn(op backends.Op, arm int, back bool, by float64) {
	name := l.router.arms[op][arm].String()
	for o, arms := range l.arms {
		for i, m := range arms {
			switch same := l.router.arms[o][i].String() == name; {
			case backends.Op(o) == op && !same && back && m.follow(by):
			case backends.Op(o) == op && !same:
				m.doubt()
			case backends.Op(o) != op && same:
				m.alert = l.now + warned
			}
		}
	}
}

// redraw publishes an op anew after its bases have changed.
func (l *Learner) redraw(op backends.Op) {
	d := draft{Router: l.router, op: op}
	for i, m := range l.arms[op] {
		d.replace(i, m.base)
	}
	for v := range numVariant {
		for _, m := range l.arms[op] {
			for _, r := range m.recent[v] {
				l.publishOne(&d, key{Variant(v), r.class})
			}
		}
	}
	l.router = d.Router
}

// nearby are the classes that are weighed anew when that of a call turns out to be otherwise: what it says of those further away is little.
var nearby = [...]int{-8, -4, -2, -1, 1, 2, 4, 8}

// publish makes a router of what is believed at a class now, and near it if that is news.
func (l *Learner) publish(op backends.Op, k key) {
	d := draft{Router: l.router, op: op}
	if l.publishOne(&d, k) {
		for _, away := range nearby {
			if c := k.class + away; c >= 0 && c < numClasses {
				l.publishOne(&d, key{k.variant, c})
			}
		}
	}
	l.router = d.Router
}

func (l *Learner) publishOne(d *draft, k key) (news bool) {
	arms := l.arms[d.op]
	beliefs := l.beliefs[:len(arms)]
	together := weigh(arms, k, beliefs)
	if before := d.together(d.op, k); math.Abs(together-before) > commonly && l.cells < maxCells {
		l.cells++
		d.putCommon(Cell{Variant: k.variant, Class: k.class, Log: before + (together-before)/slowly})
	}
	for i := range beliefs {
		b := &beliefs[i]
		if b.n == 0 || l.cells >= maxCells {
			continue
		}
		log, spread := min(max(b.prior.log+b.own, -maxLog), maxLog), min(unmeasured, max(least, math.Hypot(b.sure, math.Sqrt(b.variance*b.n))))
		now := lookup(&d.models[d.op][i], k)
		if math.Abs(log-now.log) <= material && math.Abs(spread-now.spread) <= wide {
			continue
		}
		before := len(d.models[d.op][i].Cells)
		d.put(i, Cell{Variant: k.variant, Class: k.class, Log: log, Spread: spread, Samples: max(1, int(b.n)+b.prior.samples)})
		l.cells += len(d.models[d.op][i].Cells) - before
		news = true
	}
	return news
}

// lookup is what a model says of a cell's place.
func lookup(m *Model, k key) correction {
	cells, _ := m.measured(k.variant)
	return at(cells, float64(k.class))
}

// explore chooses an arm to be tried at the size of a call: the one whose time could be furthest below the best prediction, if any could be, and if
// the budget has what it is predicted to cost. The spread grows while an arm is not measured, so that none is left for ever on a few bad calls. And one that was not measured
// since all became slower may be as fast as it was.
func (l *Learner) explore(s *Shape, parts float64, k key) *Probe {
	best := l.router.Decide(s, 0)
	if best.Arm < 0 || l.router.policy.Force != "" {
		return nil
	}
	budget := l.budget()
	if budget <= 0 {
		return nil
	}
	op := s.Op
	beliefs := l.beliefs[:len(l.arms[op])]
	common := weigh(l.arms[op], k, beliefs)
	work, chosen, lowest, near := s.Work(), -1, worthwhile*best.Nanos, 0
	f := s.features()
	var away moves // a probe's operands may be anywhere; that they are the program's is the dearest case
	if l.router.devices[op] {
		away = l.router.hosted(s)
	}
	for i, m := range l.arms[op] {
		a := l.router.arms[op][i]
		if i == best.Arm || l.router.allowed[op]&(1<<i) == 0 || a.Fast && !s.Fast || work < l.router.entries[op][i].from {
			continue
		}
		nanos, _ := l.router.expects(s, i, &f)
		moving := away.takes[a.Memory]
		if well := nanos*math.Exp(-m.moved) + moving; m.moved > shift && well < lowest { // whether it has become well again is the first thing to know
			cost := func(times float64) float64 { return times * (nanos*math.Exp(-m.moved/2) + moving - best.Nanos) * parts }
			if l.now-m.looked > again && cost(1) <= budget {
				chosen, lowest, near = i, well, 0
				if cost(around) <= budget {
					near = nearly
				}
				continue
			}
		}
		b := &beliefs[i]
		spread := sure*b.sure + max(0, common)*max(0, 1-b.n) // when all have become slower, as far as is known, maybe this one has not
		if r, _ := m.find(k); r != nil {
			age := float64(l.now-r.seen) / freshFor
			if age < 1 && r.n >= few {
				continue
			}
			spread += ageing * math.Log2(max(1, age))
		}
		if m.strange && b.n > 0 && b.n < few {
			spread += wild * (1 - b.n/few) // they may be wild ones
		}
		spread = min(spread, hopeless)
		if optimistic := nanos*math.Exp(-spread) + moving; optimistic < lowest && (nanos+moving-best.Nanos)*parts <= budget {
			chosen, lowest, near = i, optimistic, 0
		}
	}
	if chosen < 0 {
		return nil
	}
	return &Probe{op, chosen, k, near, s.Fast, best.Nanos / lowest}
}

// budget is what a probe may cost now.
func (l *Learner) budget() float64 { return allowance + Share*l.spent - l.explored }
