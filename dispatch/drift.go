// SPDX-License-Identifier: Apache-2.0

package dispatch

import "math"

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
// class alone. What is known counts for little then, so that further calls decide.
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
		r, _ := m.find(x.key)
		m.forget(x.variant, r, by)
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
