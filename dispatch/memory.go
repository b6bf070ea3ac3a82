// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"
	"slices"
)

const (
	remembered = 16 // calls that a cell remembers
	believed   = 3  // calls that an expectation counts for, at most
)

// memory is what a learner knows of one arm of an op: what the model said at first, and the latest calls by size class.
type memory struct {
	base   Model // its coefficients stay; drift shifts its cells
	recent map[key]*recent
	begun  uint32     // variants in which the arm has run
	run    []surprise // the latest calls that were all slower, or all faster, than expected
}

// key names a cell.
type key struct {
	variant Variant
	class   int
}

// recent are the latest calls of a cell, as logarithms of measured time over roofline.
type recent struct {
	logs [remembered]float64
	n    int   // calls ever; the latest is logs[(n-1)%remembered]
	seen int64 // the learner's clock at the latest

	middle, spread float64 // of those remembered
}

// surprise is how far a call was from its prediction.
type surprise struct {
	key
	log float64 // measured over predicted
}

func keyOf(s *Shape) key {
	return key{s.Variant % numVariant, int(math.Round(perOctave * octaves(s.Work())))}
}

// add remembers a call.
func (r *recent) add(log float64, now int64) {
	r.logs[r.n%remembered] = log
	r.n++
	r.seen = now
	r.middle, r.spread = centre(r.logs[:r.held()])
}

// held is how many calls are remembered.
func (r *recent) held() int { return min(r.n, remembered) }

// cell is the belief that results from an expectation and the calls: their median, so that a few wild ones change nothing, drawn towards the expectation while they are few.
// A call weighs as much as its usual spread lets it: beside a prior it decides, beside a profile it is one of several.
func (r *recent) cell(k key, e correction) Cell {
	n := float64(r.held())
	weight := min(believed, (unknown/e.spread)*(unknown/e.spread))
	return Cell{
		Variant: k.variant, Class: k.class,
		Log:     min(max((n*r.middle+weight*e.log)/(n+weight), -maxLog), maxLog),
		Spread:  min(unmeasured, max(least, math.Sqrt((n*r.spread*r.spread+unknown*unknown+weight*e.spread*e.spread)/(n+1+weight)))),
		Samples: max(1, r.held()+e.samples),
	}
}

// expect returns what is believed of a class without the calls of that class: the base, moved by what calls of the nearest other classes say of it.
func (m *memory) expect(k key) correction {
	cells, own := m.base.measured(k.variant)
	c := at(cells, float64(k.class))
	if !own && c.samples > 0 {
		c.spread = min(unmeasured, math.Hypot(c.spread, borrowed))
	}
	var near [2]struct { // below and above
		distance int
		delta    float64
	}
	for o, r := range m.recent {
		side, distance := 0, k.class-o.class
		if distance < 0 {
			side, distance = 1, -distance
		}
		if n := &near[side]; o.variant == k.variant && r.n > 0 && distance > 0 && (n.distance == 0 || distance < n.distance) {
			n.distance, n.delta = distance, r.middle-at(cells, float64(o.class)).log
		}
	}
	below, above := near[0], near[1]
	if below.distance == 0 {
		below = above
	}
	if above.distance == 0 {
		above = below
	}
	if below.distance == 0 || c.samples > 0 { // nothing to go by; or the class was measured in its own right
		return c
	}
	share := float64(below.distance) / float64(below.distance+above.distance)
	c.log += below.delta + share*(above.delta-below.delta)
	c.spread = min(c.spread, unknown+away*float64(min(below.distance, above.distance))/perOctave)
	return c
}

// model is the base with the calls put in. A variant that the base has no cells of keeps those that stood in for it, so that one measured size does not
// speak for all.
func (m *memory) model() Model {
	out := Model{Coef: m.base.Coef, Cells: slices.Clone(m.base.Cells)}
	for k, r := range m.recent {
		if cells, own := m.base.measured(k.variant); !own && r.n > 0 {
			for _, c := range cells {
				c.Variant, c.Spread = k.variant, min(unmeasured, math.Hypot(c.Spread, borrowed))
				out.put(c, false)
			}
		}
	}
	for i := range out.Cells {
		if c := &out.Cells[i]; c.Samples == 0 {
			e := m.expect(key{c.Variant, c.Class})
			c.Log, c.Spread = min(max(e.log, -maxLog), maxLog), e.spread
		}
	}
	for k, r := range m.recent {
		if r.n > 0 {
			out.put(r.cell(k, m.expect(k)), true)
		}
	}
	return out
}

// put inserts a cell in order; an old one of the same place is replaced if told so.
func (m *Model) put(c Cell, replace bool) {
	i, found := slices.BinarySearchFunc(m.Cells, c, func(a, b Cell) int {
		if a.Variant != b.Variant {
			return int(a.Variant) - int(b.Variant)
		}
		return a.Class - b.Class
	})
	switch {
	case !found:
		m.Cells = slices.Insert(m.Cells, i, c)
	case replace:
		m.Cells[i] = c
	}
}

// near tells whether the arm was measured within three octaves.
func (m *memory) near(k key) bool {
	const reach = 3 * perOctave
	cells, _ := m.base.measured(k.variant)
	for _, c := range cells {
		if c.Samples > 0 && max(c.Class-k.class, k.class-c.Class) <= reach {
			return true
		}
	}
	for o, r := range m.recent {
		if o.variant == k.variant && r.n > 1 && max(o.class-k.class, k.class-o.class) <= reach {
			return true
		}
	}
	return false
}

const (
	streak = 5   // surprises of one sign in a row that are drift
	shift  = 0.4 // and their median, at least: a factor of 1.5
)

// drifted looks at how far a call was from its prediction. After a streak of surprises it moves what is known: all of the arm when they were of several size classes, else that
// class alone. What is known counts for little then, so that further calls decide.
func (m *memory) drifted(x surprise, spread float64) bool {
	if len(m.run) > 0 && (m.run[0].log > 0) != (x.log > 0) || math.Abs(x.log) < 3*spread {
		m.run = m.run[:0]
		return false
	}
	if m.run = append(m.run, x); len(m.run) < streak {
		return false
	}
	logs, several := make([]float64, len(m.run)), false
	for i, y := range m.run {
		logs[i] = y.log
		several = several || y.key != x.key
	}
	by := median(logs)
	m.run = m.run[:0]
	if math.Abs(by) < shift {
		return false
	}
	for i := range m.base.Cells {
		if c := &m.base.Cells[i]; several {
			c.Log, c.Spread, c.Samples = min(max(c.Log+by, -maxLog), maxLog), unmeasured/2, min(c.Samples, 1)
		}
	}
	for k, r := range m.recent {
		if k == x.key || several {
			m.forget(k, r, by)
		}
	}
	return true
}

// forget leaves one call of a cell, moved.
func (m *memory) forget(k key, r *recent, by float64) {
	middle := r.middle
	if len(m.base.Cells) == 0 {
		m.base.Cells = []Cell{{Variant: k.variant, Class: k.class, Log: min(max(middle+by, -maxLog), maxLog), Spread: unmeasured / 2}}
	}
	*r = recent{n: 1, seen: r.seen, logs: [remembered]float64{middle + by}, middle: middle + by}
}
