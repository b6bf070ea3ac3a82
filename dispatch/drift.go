// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"

	"github.com/setun-compute/setun/backends"
)

const (
	streak    = 5    // surprises of one sign in a row that are drift
	suspicion = 2    // and where drift is likely: back to what was, or because the kernel has drifted in another op
	warned    = 1024 // calls for which such a warning holds
	shift     = 0.4  // log: their median, at least: a factor of 1.5
	certain   = 1.1  // log: a call that is off by this much, a factor of 3, is a surprise however large the spread
)

// drift is what a streak of surprises turned out to be.
type drift uint8

const (
	steady   drift = iota
	drifted        // the arm has become slower or faster
	returned       // it has drifted back
)

// drifts looks at how far a call was from its prediction. After a streak of surprises it moves what is known: all of the arm when they were of several size classes, else that
// class, and those around it by less the further away they are. What is known counts for little then, so that further calls decide.
func (m *memory) drifts(x surprise, spread float64, now int64) drift {
	back := m.moved*x.log < 0 && math.Abs(m.moved) > 2*shift
	enough := min(3*spread, certain)
	if back { // as it was before, or as it is believed to be now: the nearer one
		enough = min(enough, math.Abs(m.moved)/2)
	}
	if len(m.run) > 0 && (m.run[0].log > 0) != (x.log > 0) || math.Abs(x.log) < enough {
		m.run = m.run[:0]
		return steady
	}
	likely := back || now < m.alert
	if m.run = append(m.run, x); len(m.run) < streak && !(likely && len(m.run) >= suspicion) {
		return steady
	}
	logs, several := make([]float64, len(m.run)), false
	for i, y := range m.run {
		logs[i] = y.log
		several = several || y.key != x.key
	}
	by := median(logs)
	m.run, m.alert = m.run[:0], 0
	if math.Abs(by) < shift {
		return steady
	}
	if !several {
		list := m.recent[x.variant] // its neighbours too, or the calls that they remember outvote what has just been seen
		for i := range list {
			if d := max(list[i].class-x.class, x.class-list[i].class); d <= reach {
				m.forget(x.variant, &list[i], by*fade[d])
			}
		}
		return drifted
	}
	if m.move(by); back {
		return returned
	}
	return drifted
}

// move moves all that is known of the arm.
func (m *memory) move(by float64) {
	m.moved += by
	if len(m.base.Cells) == 0 {
		m.base.Cells = []Cell{{}}
	}
	for i := range m.base.Cells {
		c := &m.base.Cells[i]
		c.Log, c.Spread, c.Samples = min(max(c.Log+by, -maxLog), maxLog), unmeasured/2, min(c.Samples, 1)
	}
	for v, list := range m.recent {
		for i := range list {
			m.forget(Variant(v), &list[i], by)
		}
	}
}

// forget leaves one call of a cell, moved.
func (m *memory) forget(v Variant, r *recent, by float64) {
	middle := r.middle + by
	*r = recent{class: r.class, n: min(r.n, 1), seen: r.seen, logs: [remembered]float64{middle}, middle: middle}
	m.compare(v, r)
}

// doubt lets what is remembered count for a single call in each cell.
func (m *memory) doubt() {
	for v, list := range m.recent {
		for i := range list {
			m.forget(Variant(v), &list[i], 0)
		}
	}
}

// follow is called when another arm has drifted back: what drifted as that one had, drifted with the machine, and comes back with it.
func (m *memory) follow(by float64) (changed bool) {
	if m.moved*by >= 0 {
		return false
	}
	m.move(math.Copysign(min(math.Abs(by), math.Abs(m.moved)), by))
	return true
}

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
