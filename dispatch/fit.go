// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// Sample is one measured call.
type Sample struct {
	Shape Shape
	Nanos float64
}

// measurement is the robust summary of all samples of one shape.
type measurement struct {
	shape   Shape
	nanos   float64 // median
	spread  float64 // relative, from the median absolute deviation
	samples int
}

// Fit makes a model from samples. Samples of one shape count by their median, so a wild one among several changes nothing. Samples
// that are not positive and finite are left out; without samples the model is the prior.
func Fit(prior Coef, samples []Sample) Model {
	ms := summarise(samples)
	m := Model{Coef: prior}
	if len(ms) == 0 {
		return m
	}
	m.Coef = regress(prior, ms)
	m.Cells = correct(&m.Coef, ms)
	return m
}

func summarise(samples []Sample) []measurement {
	groups := map[Shape][]float64{}
	for _, s := range samples {
		if s.Nanos > 0 && !math.IsInf(s.Nanos, 0) {
			groups[s.Shape] = append(groups[s.Shape], s.Nanos)
		}
	}
	var ms []measurement
	for shape, v := range groups {
		med := median(v)
		dev := make([]float64, len(v))
		for i, x := range v {
			dev[i] = math.Abs(x - med)
		}
		// 1.4826 turns a median absolute deviation into a standard deviation of normal errors.
		ms = append(ms, measurement{shape, med, 1.4826 * median(dev) / med, len(v)})
	}
	slices.SortFunc(ms, func(a, b measurement) int {
		return cmp.Or(cmp.Compare(a.shape.Variant, b.shape.Variant), cmp.Compare(a.shape.Work(), b.shape.Work()),
			cmp.Compare(a.shape.K, b.shape.K), cmp.Compare(a.shape.D, b.shape.D), cmp.Compare(a.shape.Groups, b.shape.Groups), cmp.Compare(a.shape.Out, b.shape.Out))
	})
	return ms
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// pull is the weight of the prior against one measurement, for each coefficient.
const pull = 0.05

// regress finds the coefficients c >= 0 that minimise Σ(c·f/t − 1)² + Σ(pull·(c/prior − 1))². There are at most four, so each
// set of positive coefficients is solved in turn and the best feasible one wins: that is the exact optimum.
func regress(prior Coef, ms []measurement) Coef {
	var best Coef
	least := math.Inf(1)
	for set := 1; set < 1<<numFeatures; set++ {
		var cols []int
		for j := range numFeatures {
			if set&(1<<j) != 0 {
				cols = append(cols, j)
			}
		}
		if c, cost, ok := solve(prior, ms, cols); ok && cost < least {
			best, least = c, cost
		}
	}
	if math.IsInf(least, 1) {
		return prior
	}
	return best
}

func solve(prior Coef, ms []measurement, cols []int) (c Coef, cost float64, ok bool) {
	rows := len(ms) + numFeatures
	a, b := mat.NewDense(rows, len(cols), nil), mat.NewVecDense(rows, nil)
	for i, m := range ms {
		f := m.shape.features()
		b.SetVec(i, 1)
		for x, j := range cols {
			// Unknowns are in units of their prior: the columns are of like size then.
			a.Set(i, x, f[j]*unit(prior[j])/m.nanos)
		}
	}
	for j := range numFeatures {
		if prior[j] > 0 {
			b.SetVec(len(ms)+j, pull)
		}
		if x := slices.Index(cols, j); x >= 0 {
			a.Set(len(ms)+j, x, pull)
		}
	}
	var z mat.VecDense
	if err := z.SolveVec(a, b); err != nil {
		return c, 0, false
	}
	var r mat.VecDense
	r.MulVec(a, &z)
	r.SubVec(&r, b)
	for x, j := range cols {
		if v := z.AtVec(x); !(v >= 0) || math.IsInf(v, 0) {
			return c, 0, false
		}
		c[j] = z.AtVec(x) * unit(prior[j])
	}
	return c, mat.Dot(&r, &r), true
}

func unit(prior float64) float64 {
	if prior > 0 {
		return prior
	}
	return 1e-3
}

// correct turns what the roofline leaves over into cells: the mean log residual of a size class, shrunk towards 0 as if
// one further sample had agreed with the roofline.
func correct(c *Coef, ms []measurement) []Cell {
	type key struct {
		v     Variant
		class int
	}
	type total struct{ log, weight, spread float64 }
	totals := map[key]total{}
	for _, m := range ms {
		f := m.shape.features()
		roof := max(c.roofline(&f), minNanos)
		class, fraction := position(m.shape.Work())
		if fraction >= 0.5 {
			class++
		}
		k, w := key{m.shape.Variant, class}, float64(m.samples)
		t := totals[k]
		totals[k] = total{t.log + w*min(max(math.Log(m.nanos/roof), -maxLog), maxLog), t.weight + w, t.spread + w*m.spread}
	}
	var cells []Cell
	for k, t := range totals {
		// The part of the spread that more samples cannot take away is kept at 2 %.
		cells = append(cells, Cell{k.v, k.class, t.log / (t.weight + 0.1), min(unmeasured, t.spread/t.weight+0.02), int(t.weight)})
	}
	slices.SortFunc(cells, func(a, b Cell) int {
		return cmp.Or(cmp.Compare(a.Variant, b.Variant), cmp.Compare(a.Class, b.Class))
	})
	return cells
}

// maxLog bounds a correction: a factor of e^8, about 3000.
const maxLog = 8
