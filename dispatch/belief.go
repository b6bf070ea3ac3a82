// SPDX-License-Identifier: Apache-2.0

package dispatch

import "math"

const (
	shared   = 0.5  // how far all arms of an op usually are from their base together: priors know ratios better than times, and a busy machine slows all
	apart    = 0.6  // of the base's spread is how far one arm usually is beside that
	apartMin = 0.08 // and at least, at most
	apartMax = 0.42
	stranger = 1.5  // of a kernel whose name says nothing about its speed
	jitter   = 0.25 // spread of one call in real use, at least: caches, threads and neighbours are in some other state each time
	doubtful = 1    // how many times as large the variance of a single call is as that of one of many: it may be a wild one
	wild     = 1.4  // log: further from the base a single call does not count
	settled  = 3    // standard deviations from which what was measured is believed whole, once it rests on so many calls; nothing but the truth makes a call faster, so of fast ones one will do
	fading   = 0.7  // what calls count for a class half an octave away
	reach    = 12   // classes over which they count at all
)

// evidence is what calls at and near a class say of an arm: how many they count for, how far they were from the base in the mean, and the variance of that.
type evidence struct{ n, delta, variance float64 }

// belief is what follows for an arm: how far it is from its base beside what all arms are, and the standard deviation of that.
type belief struct {
	evidence
	prior     correction
	own, sure float64
}

var fade = func() (w [reach + 1]float64) {
	for i := range w {
		w[i] = math.Pow(fading, float64(i))
	}
	return w
}()

// evidence sums up the calls near a class.
func (m *memory) evidence(k key) (e evidence) {
	list := m.recent[k.variant]
	for i := range list {
		r := &list[i]
		d := max(r.class-k.class, k.class-r.class)
		if d > reach {
			continue
		}
		w := fade[d] * float64(r.held())
		e.n += w
		e.delta += w * r.delta
		e.variance += w * max(r.spread, jitter) * max(r.spread, jitter)
	}
	if e.n > 0 {
		e.delta /= e.n
		e.variance = e.variance/(e.n*e.n)*(1+doubtful/max(1, e.n)) + least*least
	}
	return e
}

// prior is what the base says of a class, and how far the arm may be from it.
func (m *memory) prior(k key) (c correction, own float64) {
	cells, same := m.base.measured(k.variant)
	c = at(cells, float64(k.class))
	if !same && c.samples > 0 {
		c.spread = min(unmeasured, math.Hypot(c.spread, borrowed))
	}
	if m.strange && c.samples == 0 {
		return c, stranger
	}
	return c, min(max(apart*c.spread, apartMin), apartMax)
}

// weigh explains what was measured of an op's arms at and near a class by two things: how far all are from their base together, and each by itself. Both are expected to be normal, and the
// estimate is the usual one, shrunken by its variance (Efron and Morris 1973). So a busy machine, or a prior for another machine, moves all arms and hardly changes which is the best;
// and it takes several calls, or clear ones, to do that. An arm that is clearly apart from the others is believed to be just where it was measured.
func weigh(arms []*memory, k key, beliefs []belief) (common float64) {
	sum, weight := 0.0, 1/(shared*shared)
	for i, m := range arms {
		b := &beliefs[i]
		b.evidence = m.evidence(k)
		b.prior, b.sure = m.prior(k)
		if b.n > 0 {
			v := b.sure*b.sure + b.variance
			sum += b.delta / v
			weight += 1 / v
		}
	}
	common = sum / weight
	for i := range beliefs {
		b := &beliefs[i]
		if b.own = 0; b.n == 0 {
			continue
		}
		v := b.sure*b.sure + b.variance
		keep := b.sure * b.sure / v
		rest := weight - 1/v // what the others say
		if off := b.delta - (sum-b.delta/v)/rest; off*off > settled*settled*(v+1/rest) && (b.n >= settled || off < 0) {
			keep = max(keep, 1-b.variance/(off*off))
		}
		b.own = keep * (b.delta - common)
		b.sure = math.Sqrt(keep * b.variance)
	}
	return common
}
