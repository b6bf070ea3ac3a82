// SPDX-License-Identifier: Apache-2.0

package dispatch

import "math"

const (
	stepsPerOctave = 16
	numSteps       = 64 * stepsPerOctave
)

// row holds the correction factor at every sixteenth of an octave: the log-linear interpolation between a model's cells, evaluated
// beforehand, so that a decision neither searches nor needs a logarithm or an exponential. Between two steps it is taken linearly.
type row [numSteps]float32

// entry is an arm as Decide sees it.
type entry struct {
	coef   Coef
	from   float64          // size from which the policy lets it run
	beside float64          // how many times as long a call takes when others are in flight
	rows   [numVariant]*row // variants with the same cells share a row; nil: no correction
}

func newEntry(m *Model, from, beside float64) entry {
	e := entry{coef: m.Coef, from: from, beside: beside}
	made := map[*Cell]*row{}
	for v := range e.rows {
		cells, _ := m.measured(Variant(v))
		if len(cells) == 0 {
			continue
		}
		r := made[&cells[0]]
		if r == nil {
			r = new(row)
			r.fill(cells, 0, len(cells)-1)
			made[&cells[0]] = r
		}
		e.rows[v] = r
	}
	return e
}

// stepsPerClass lie between the middles of neighbouring size classes.
const stepsPerClass = stepsPerOctave / perOctave

// fill writes a row from one cell to another; beyond the outermost ones too, where they are among them. Between two cells the factors are a geometric progression, so that a row costs
// few exponentials.
func (r *row) fill(cells []Cell, first, last int) {
	for i := first; i <= last; i++ {
		c := &cells[i]
		at, f := c.Class*stepsPerClass, math.Exp(c.Log)
		r[at] = float32(f)
		if i == 0 {
			for j := range at {
				r[j] = float32(f)
			}
		}
		if i == len(cells)-1 {
			for j := at; j < len(r); j++ {
				r[j] = float32(f)
			}
		}
		if i < last {
			next := cells[i+1].Class * stepsPerClass
			q := math.Exp((cells[i+1].Log - c.Log) / float64(next-at))
			for j := at + 1; j < next; j++ {
				f *= q
				r[j] = float32(f)
			}
		}
	}
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
