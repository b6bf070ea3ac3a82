// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

const (
	numFeatures = 6
	perOctave   = 2    // size classes an octave
	numClasses  = 128  // of half octaves: up to 2^63
	minNanos    = 1    // no call is predicted faster
	maxNanos    = 1e18 // or slower: thirty years

	// maxLog bounds a correction: a factor of e^8, about 3000.
	maxLog = 8
	// unmeasured is the relative spread of a prediction from prior knowledge: a factor of two is likely.
	unmeasured = 0.7
	// borrowed is the relative spread that is added when another variant's corrections stand in.
	borrowed = 0.25
	// away is the relative spread that is added for each octave between a size and the nearest measured class.
	away = 0.1
)

// Coef are the roofline's coefficients, in nanoseconds a unit of each feature; none is negative.
type Coef [numFeatures]float64

// Cell is what was measured about one size class of one variant.
type Cell struct {
	Variant Variant `json:"variant"`
	Class   int     `json:"class"`   // half octaves: size 2^(Class/2), see octaves for odd ones
	Log     float64 `json:"log"`     // shrunken mean of log(measured/roofline)
	Spread  float64 `json:"spread"`  // relative standard deviation of a single call
	Samples int     `json:"samples"` // calls measured; 0: prior knowledge
}

// Model predicts one arm's time for one op. The zero value predicts the least time there is.
type Model struct {
	Coef  Coef   `json:"coef"`
	Cells []Cell `json:"cells"` // sorted by variant and class; empty: nothing was measured
}

// Prediction is what a model says of a shape.
type Prediction struct {
	Nanos   float64 // finite, at least 1
	Spread  float64 // standard deviation of a single call, in nanoseconds
	Samples int     // measured calls that it rests on; 0: prior knowledge only
}

// Predict returns the predicted time of a shape. It is deterministic. A router computes the same from a table, within half a percent
// where times change by a factor of four in half an octave, and much closer elsewhere.
func (m *Model) Predict(s Shape) Prediction {
	f := s.features()
	cells, own := m.measured(s.Variant % numVariant)
	c := at(cells, perOctave*octaves(s.Work()))
	if !own && c.samples > 0 {
		c.spread = min(unmeasured, math.Hypot(c.spread, borrowed))
	}
	t := clamp(m.Coef.roofline(&f) * math.Exp(c.log))
	return Prediction{Nanos: t, Spread: t * c.spread, Samples: c.samples}
}

func (c *Coef) roofline(f *[numFeatures]float64) float64 {
	return c[0]*f[0] + c[1]*f[1] + c[2]*f[2] + c[3]*f[3] + c[4]*f[4] + c[5]*f[5]
}

// clamp keeps a prediction finite and positive. What is not a number counts as the slowest, so that nothing prefers it.
func clamp(t float64) float64 {
	if t < minNanos {
		return minNanos
	}
	if t <= maxNanos {
		return t
	}
	return maxNanos
}

// octaves returns log2 of a size, within 0.09: the fraction is taken linearly between powers of two, which is monotone,
// continuous and needs no logarithm. An odd half octave lies at 1.5 times a power of two therefore. It is between 0 and 63.5.
func octaves(work float64) float64 {
	u := math.Float64bits(max(work, 1))
	return min(float64(int(u>>52)-1023)+float64(u&(1<<52-1))*0x1p-52, (numClasses-1)/float64(perOctave))
}

// measured returns the cells that stand for a variant: its own, or those of the variant most like it.
func (m *Model) measured(v Variant) (cells []Cell, own bool) {
	least := math.MaxInt
	for i := 0; i < len(m.Cells); {
		u := m.Cells[i].Variant
		j := i
		for j < len(m.Cells) && m.Cells[j].Variant == u {
			j++
		}
		if d := u.distance(v); d < least {
			least, cells = d, m.Cells[i:j]
		}
		i = j
	}
	return cells, least == 0
}

// put inserts a cell in order; an old one of the same place is replaced if told so.
func (m *Model) put(c Cell, replace bool) {
	i, found := slices.BinarySearchFunc(m.Cells, c, func(a, b Cell) int { return cmp.Or(int(a.Variant)-int(b.Variant), a.Class-b.Class) })
	switch {
	case !found:
		m.Cells = slices.Insert(m.Cells, i, c)
	case replace:
		m.Cells[i] = c
	}
}

// distance orders variants by how badly one stands for another: how the scale is found matters more than how codes are
// packed, and that more than the number of scales, which is a feature of the roofline already.
func (v Variant) distance(u Variant) int {
	x := uint(v ^ u)
	return bits.OnesCount(x&uint(Grouped)) + 2*bits.OnesCount(x&uint(Packed)) + 4*bits.OnesCount(x&uint(Iterative|Random))
}

// correction is a cell, or what lies between two.
type correction struct {
	log, spread float64
	samples     int
}

// at interpolates between cells at a position in classes. Beyond the measured sizes the nearest one holds; far from any, the spread grows.
func at(cells []Cell, p float64) correction {
	if len(cells) == 0 {
		return correction{0, unmeasured, 0}
	}
	hi, _ := slices.BinarySearchFunc(cells, p, func(c Cell, p float64) int {
		if float64(c.Class) < p {
			return -1
		}
		return 1
	})
	a, b := cells[max(hi-1, 0)], cells[min(hi, len(cells)-1)]
	w := 0.0
	if b.Class > a.Class {
		w = (p - float64(a.Class)) / float64(b.Class-a.Class)
	}
	far := min(math.Abs(p-float64(a.Class)), math.Abs(p-float64(b.Class))) / perOctave
	return correction{
		log:     a.Log + w*(b.Log-a.Log),
		spread:  min(unmeasured, a.Spread+w*(b.Spread-a.Spread)+away*max(0, far-0.5)),
		samples: min(a.Samples, b.Samples),
	}
}
