// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"
	"slices"
)

const (
	stepsPerOctave = 16
	numSteps       = 64 * stepsPerOctave
)

// row holds the correction factor at every sixteenth of an octave: the log-linear interpolation between a model's cells, evaluated
// beforehand, so that a decision neither searches nor needs a logarithm or an exponential. Between two steps it is taken linearly.
type row [numSteps]float32

// entry is an arm as Decide sees it.
type entry struct {
	coef Coef
	from float64          // size from which the policy lets it run
	rows [numVariant]*row // variants with the same cells share a row; nil: no correction
}

func newEntry(m *Model, from float64) entry {
	return newEntryWhere(m, from, func(Variant) bool { return true })
}

// newEntryWhere makes the rows of some variants.
func newEntryWhere(m *Model, from float64, wanted func(Variant) bool) entry {
	e := entry{coef: m.Coef, from: from}
	made := map[*Cell]*row{}
	for v := range e.rows {
		cells, _ := m.measured(Variant(v))
		if len(cells) == 0 || !wanted(Variant(v)) {
			continue
		}
		r := made[&cells[0]]
		if r == nil {
			r = new(row)
			for i := range r {
				r[i] = float32(math.Exp(at(cells, float64(i)*perOctave/stepsPerOctave).log))
			}
			made[&cells[0]] = r
		}
		e.rows[v] = r
	}
	return e
}

// renewed is e with a model of which only what stands for some variants has changed.
func (e entry) renewed(old, m *Model) entry {
	fresh := newEntryWhere(m, e.from, func(v Variant) bool {
		a, _ := old.measured(v)
		b, _ := m.measured(v)
		return !slices.Equal(a, b)
	})
	for v, r := range fresh.rows {
		if r == nil {
			fresh.rows[v] = e.rows[v]
		}
	}
	return fresh
}

// place is where a size lies in a row: between two steps, the second with a weight.
func place(work float64) (step uint, weight float64) {
	p := octaves(work) * stepsPerOctave
	step = uint(p)
	return step, p - float64(step)
}

// at returns the factor at a place.
func (r *row) at(step uint, weight float64) float64 {
	a, b := float64(r[step]), float64(r[step+1])
	return a + weight*(b-a)
}

// predict returns the time of features f at a place, in nanoseconds. The variant is below numVariant. Decide has these
// lines written out: the compiler does not inline them, and five calls cost a fifth of a decision.
func (e *entry) predict(f *[numFeatures]float64, variant Variant, step uint, weight float64) float64 {
	t := e.coef.roofline(f)
	if r := e.rows[variant]; r != nil {
		t *= r.at(step, weight)
	}
	return clamp(t)
}
