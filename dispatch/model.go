// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"
	"slices"
)

const (
	numFeatures = 4
	perOctave   = 2   // size classes an octave
	numClasses  = 128 // of half octaves: up to 2^63
	minNanos    = 1   // no call is predicted faster
)

// Coef are the roofline's coefficients, in nanoseconds a unit of each feature; none is negative.
type Coef [numFeatures]float64

// Cell is what was measured about one size class of one variant.
type Cell struct {
	Variant Variant `json:"variant"`
	Class   int     `json:"class"`   // half octaves: size 2^(Class/2)
	Log     float64 `json:"log"`     // mean log(measured/roofline)
	Spread  float64 `json:"spread"`  // relative standard deviation of a single call
	Samples int     `json:"samples"` // calls measured
}

// Model predicts one arm's time for one op.
type Model struct {
	Coef  Coef   `json:"coef"`
	Cells []Cell `json:"cells"` // sorted by variant and class; empty: nothing was measured
}

// Prediction is what a model says of a shape.
type Prediction struct {
	Nanos   float64
	Spread  float64 // standard deviation in nanoseconds
	Samples int     // measured calls that it rests on; 0: prior knowledge only
}

// unmeasured is the relative spread of a prediction from prior knowledge: a factor of two is likely.
const unmeasured = 0.7

func (c *Coef) roofline(f *[numFeatures]float64) float64 {
	return c[0]*f[0] + c[1]*f[1] + c[2]*f[2] + c[3]*f[3]
}

// position returns where a size lies between size classes: perOctave·log2(work), with the fraction taken linearly
// between powers of two, which is monotone and needs no logarithm.
func position(work float64) (class int, fraction float64) {
	u := math.Float64bits(max(work, 1))
	p := float64(int(u>>52)-1023) + float64(u&(1<<52-1))*0x1p-52
	p *= perOctave
	class = int(p)
	if class >= numClasses-1 {
		return numClasses - 2, 1
	}
	return class, p - float64(class)
}

// measured returns the cells that stand for a variant: its own, or those of the nearest variant that has any.
func (m *Model) measured(v Variant) []Cell {
	for _, try := range []Variant{v, v &^ Grouped, v &^ Packed, v &^ (Packed | Grouped), 0} {
		i, _ := slices.BinarySearchFunc(m.Cells, try, func(c Cell, v Variant) int { return int(c.Variant) - int(v) })
		j := i
		for j < len(m.Cells) && m.Cells[j].Variant == try {
			j++
		}
		if j > i {
			return m.Cells[i:j]
		}
	}
	return nil
}

// at interpolates the correction (as a logarithm), its spread and its samples at a position. Beyond the measured sizes the nearest holds.
func at(cells []Cell, class int, fraction float64) (log, spread float64, samples int) {
	if len(cells) == 0 {
		return 0, unmeasured, 0
	}
	p := float64(class) + fraction
	hi := 0
	for hi < len(cells) && float64(cells[hi].Class) < p {
		hi++
	}
	if hi == 0 || hi == len(cells) {
		c := cells[min(hi, len(cells)-1)]
		if away := math.Abs(p - float64(c.Class)); away > perOctave { // far outside: less certain by the octave
			return c.Log, min(unmeasured, c.Spread+0.1*(away/perOctave-1)), c.Samples
		}
		return c.Log, c.Spread, c.Samples
	}
	a, b := cells[hi-1], cells[hi]
	w := (p - float64(a.Class)) / float64(b.Class-a.Class)
	return a.Log + w*(b.Log-a.Log), a.Spread + w*(b.Spread-a.Spread), min(a.Samples, b.Samples)
}

// Predict returns the predicted time of a shape: finite, and at least one nanosecond.
func (m *Model) Predict(s Shape) Prediction {
	f := s.features()
	class, fraction := position(s.Work())
	log, spread, samples := at(m.measured(s.Variant), class, fraction)
	t := max(minNanos, m.Coef.roofline(&f)*math.Exp(log))
	return Prediction{Nanos: t, Spread: t * spread, Samples: samples}
}
