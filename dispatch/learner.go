// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"
	"slices"
	"sync/atomic"

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
	lapse      = 256  // observed calls of an op after which a probe that none of them fitted is given up
	stopped    = 4    // times as long as predicted is all that one call counts for: what takes longer, the process was stopped, or its machine
	lately     = 0.98 // by how much the greatest number of parts that calls had is forgotten with each
)

// Observation is one timed call.
type Observation struct {
	Shape  Shape
	Arm    int     // index into Arms(op)
	Nanos  float64 // of a part
	Moving float64 // what of Nanos were copies to and from a device, as the decision had it: models are of calls without
	Parts  float64 // equal parts that the call had, as Nanos and predictions count them: iterations of kmeans; at least 1
	Most   float64 // parts that it could have had, as far as is known before a call: the limit of iterations; 0: Parts
	Weight float64 // how many calls it stands for; at least 1
	Probe  bool    // it was run to learn, not because it was predicted to be fastest
	Failed bool    // it was a probe that ended in an error: it has its price, and teaches nothing. One beside others (Shape.Variant) neither
	Calm   bool    // calls of the arm that were as predicted, and are not observed, came before this one: what is observed is no streak

	Without uint64 // bit mask of arms that cannot run such a call now, and are not worth a probe
}

// Probe asks for one call of a size class to be run on an arm that is not the fastest by prediction, to learn.
type Probe struct {
	Op   backends.Op
	Arm  int
	key  key
	near int // classes around the key's that will do
	fast bool
	gain float64 // how many times as fast as the best the arm may be

	most  float64       // parts that a call may have at most
	cost  float64       // nanoseconds of the budget that are kept for it
	asked int64         // observed calls of the op when it was asked for
	state atomic.Uint32 // what has become of it
}

// What becomes of a probe.
const (
	waiting uint32 = iota
	taken          // by a call that will be observed, or is lost
	over           // another took its place, or no call came
)

// Over tells whether the probe should take the place of another that still waits for a call; q may be nil.
func (p *Probe) Over(q *Probe) bool { return p != nil && (q == nil || q.Ended() || p.gain > q.gain) }

// Ended tells whether the probe waits no longer.
func (p *Probe) Ended() bool { return p.state.Load() != waiting }

// Take gives the probe to a call that it is for, and to no other. most is how many parts the call may have: its budget does not pay for more than the call had that asked.
func (p *Probe) Take(s *Shape, most float64) bool {
	return most <= p.most && p.Fits(s) && p.state.CompareAndSwap(waiting, taken)
}

// Fits tells whether a call is one that the probe is for.
func (p *Probe) Fits(s *Shape) bool {
	k := keyOf(s)
	return !p.Ended() && s.Op == p.Op && s.Fast == p.fast && k.variant == p.key.variant && max(k.class-p.key.class, p.key.class-k.class) <= p.near
}

// Learner turns timed calls into better routers. It is deterministic for the order of calls, knows no clock but their number, and is for one
// goroutine at a time; the routers that it makes are for any number. What it remembers is bounded by the number of cells that a profile may have.
type Learner struct {
	router *Router
	arms   [numOps][]*memory
	now    int64 // calls observed
	cells  int   // remembered, and in the models and in what arms have in common

	drifts []Drift // that nobody has taken yet

	usual   [numOps]float64 // what the arms of an op have had in common lately
	beliefs [MaxArms]belief // of the class that was weighed last

	spent, explored float64 // nanoseconds: of all calls, and what probes took beyond the best prediction

	probes   [numOps]*Probe  // that were asked for and are not settled
	reserved float64         // nanoseconds that are kept for them
	heard    [numOps]int64   // observed calls
	longest  [numOps]float64 // parts that a call had lately
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
	l.heard[op]++
	took, moving := clamp(o.Nanos), 0.0
	if o.Moving > 0 && l.router.devices[op] {
		moving = min(o.Moving, took-minNanos)
	}
	f := o.Shape.features()
	predicted, _ := l.router.expects(&o.Shape, o.Arm, &f)
	parts, counts := max(1, o.Parts), min(took, stopped*(predicted+moving))
	l.spent += counts * parts * max(1, o.Weight)
	m, k := l.arms[op][o.Arm], keyOf(&o.Shape)
	if o.Calm {
		m.run = m.run[:0]
	}
	if o.Probe {
		m.looked = l.now
		l.settle(op, 0)
		if best := l.router.Decide(&o.Shape, o.Without); o.Failed {
			l.explored += counts * parts // another arm had to do it all
		} else if best.Arm >= 0 {
			l.explored += max(0, counts-best.Nanos) * parts
		}
	}
	l.lapse(op)
	if o.Failed || o.Shape.Variant&Beside != 0 {
		return nil
	}
	l.longest[op] = max(parts, lately*l.longest[op])
	if m.begun&(1<<k.variant) != 0 {
		l.learn(&o.Shape, o.Arm, k, took-moving)
	}
	m.begun |= 1 << k.variant
	return l.explore(&o, parts, k)
}

// settle takes an op's probe off the budget, which has paid for it, or pays now.
func (l *Learner) settle(op backends.Op, pay float64) {
	if p := l.probes[op]; p != nil {
		l.probes[op] = nil
		l.reserved -= p.cost
		l.explored += pay
	}
}

// lapse gives up a probe that has waited for too long: its arm may be ill, or calls of that size come no more, and another arm could be tried meanwhile. One that was taken and never heard of has cost
// what was kept for it. In an op that is called no more nothing lapses; what is kept for it is small beside what the other calls' time pays for soon.
func (l *Learner) lapse(op backends.Op) {
	p := l.probes[op]
	switch {
	case p == nil || l.heard[op]-p.asked <= lapse:
	case p.state.CompareAndSwap(waiting, over):
		l.settle(op, 0)
	default:
		l.settle(op, p.cost)
	}
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

// redraw publishes an op anew after its bases have changed.
func (l *Learner) redraw(op backends.Op) {
	d := draft{Router: l.router, op: op}
	for i, m := range l.arms[op] {
		l.cells += len(m.base.Cells) - len(d.models[op][i].Cells)
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
	full, here := l.cells >= maxCells, Cell{Variant: k.variant, Class: k.class} // then only what is there may change
	if before := d.together(d.op, k); math.Abs(together-before) > commonly && !(full && d.missing(here)) {
		here.Log = before + (together-before)/slowly
		l.cells += d.putCommon(here)
	}
	for i := range beliefs {
		b := &beliefs[i]
		if b.n == 0 {
			continue
		}
		if full {
			if _, there := find(d.models[d.op][i].Cells, here); !there {
				continue
			}
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
func (l *Learner) explore(o *Observation, parts float64, k key) *Probe {
	s := &o.Shape
	best := l.router.Decide(s, o.Without)
	if best.Arm < 0 || l.router.policy.Force != "" {
		return nil
	}
	op := s.Op
	budget, before := l.budget(), l.probes[op]
	if before != nil {
		budget += before.cost // it could give way
	}
	if budget <= 0 || before != nil && before.Ended() {
		return nil
	}
	most := max(parts, o.Most)
	parts = max(parts, min(most, l.longest[op])) // a call that may run it can have as many
	beliefs := l.beliefs[:len(l.arms[op])]
	common := weigh(l.arms[op], k, beliefs)
	work, chosen, lowest, near, price := s.Work(), -1, worthwhile*best.Nanos, 0, 0.0
	f := s.features()
	var away moves // a probe's operands may be anywhere; that they are the program's is the dearest case
	if l.router.devices[op] {
		away = l.router.hosted(s)
	}
	for i, m := range l.arms[op] {
		a := l.router.arms[op][i]
		if i == best.Arm || l.router.allowed[op]&^o.Without&(1<<i) == 0 || a.Fast && !s.Fast || work < l.router.entries[op][i].from {
			continue
		}
		nanos, _ := l.router.expects(s, i, &f)
		moving := away.takes[a.Memory]
		if well := nanos*math.Exp(-m.moved) + moving; m.moved > shift && well < lowest { // whether it has become well again is the first thing to know
			cost := func(times float64) float64 { return times * (nanos*math.Exp(-m.moved/2) + moving - best.Nanos) * parts }
			if l.now-m.looked > again && cost(1) <= budget {
				chosen, lowest, near, price = i, well, 0, cost(1)
				if cost(around) <= budget {
					near, price = nearly, cost(around)
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
		if optimistic, cost := nanos*math.Exp(-spread)+moving, (nanos+moving-best.Nanos)*parts; optimistic < lowest && cost <= budget {
			chosen, lowest, near, price = i, optimistic, 0, cost
		}
	}
	gain := best.Nanos / lowest
	if chosen < 0 || before != nil && !(gain > before.gain && before.state.CompareAndSwap(waiting, over)) {
		return nil
	}
	l.settle(op, 0)
	p := &Probe{Op: op, Arm: chosen, key: k, near: near, fast: s.Fast, gain: gain, most: most, cost: max(0, price), asked: l.heard[op]}
	l.probes[op] = p
	l.reserved += p.cost
	return p
}

// budget is what a further probe may cost now: none counts on what another may take that has been asked for.
func (l *Learner) budget() float64 { return allowance + Share*l.spent - l.explored - l.reserved }
