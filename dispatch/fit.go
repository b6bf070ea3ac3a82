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
	nanos   float64 // lower quartile
	spread  float64 // relative, from the median absolute deviation
	samples int
}

const (
	// pull is the weight of the prior against one measurement, for each coefficient.
	pull = 0.05
	// rounds of reweighting; the weights stand still well before.
	rounds = 8
	// huber is where a relative error begins to count less, in standard deviations: the usual 95 % efficiency on normal errors.
	huber = 1.345
)

// Fit makes a model from samples of one op and arm. Samples of one shape count by their lower quartile, since what else runs on a machine only ever makes calls slower, and shapes that fit the others badly count less, so a few wild
// ones change little. Samples that are not positive and finite are left out; without samples the model is the prior. Deterministic, whatever the order of the samples.
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
		if s.Nanos > 0 && !math.IsInf(s.Nanos, 0) && s.Shape.Variant < numVariant {
			groups[s.Shape] = append(groups[s.Shape], clamp(s.Nanos))
		}
	}
	var ms []measurement
	for shape, v := range groups {
		_, spread := centre(v)
		low := Typical(v)
		ms = append(ms, measurement{shape, low, spread / low, len(v)})
	}
	slices.SortFunc(ms, func(a, b measurement) int {
		x, y := a.shape, b.shape
		return cmp.Or(cmp.Compare(x.Variant, y.Variant), cmp.Compare(x.Work(), y.Work()), cmp.Compare(x.N, y.N),
			cmp.Compare(x.K, y.K), cmp.Compare(x.D, y.D), cmp.Compare(x.Groups, y.Groups), cmp.Compare(x.Out, y.Out))
	})
	return ms
}

// Typical is what samples of one shape count as, in nanoseconds: the lower quartile, interpolated between samples. There must be at least one.
func Typical(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	p := float64(len(s)-1) / 4
	i := int(p)
	return s[i] + (p-float64(i))*(s[min(i+1, len(s)-1)]-s[i])
}

// regress minimises Σ w·((c·f − t)/max(t, t'))² + Σ(pull·(c − prior)/max(prior, c'))² over c ≥ 0, where t' and c' are of the round before and w is Huber's
// weight of log(t/t'). Dividing by the larger of both times bounds what one sample can do, be it far too slow or far too fast;
// dividing by the larger of both coefficients bounds what a prior can do that is far off.
func regress(prior Coef, ms []measurement) Coef {
	predicted := make([]float64, len(ms))
	c := scaled(prior, ms)
	weight, errs := make([]float64, len(ms)), make([]float64, len(ms))
	for range rounds {
		for i, m := range ms {
			f := m.shape.features()
			predicted[i] = clamp(c.roofline(&f))
			errs[i] = math.Abs(math.Log(m.nanos / predicted[i]))
		}
		reach := huber * max(1.4826*median(errs), 0.05)
		for i := range ms {
			weight[i] = math.Sqrt(min(1, reach/max(errs[i], reach))) / max(ms[i].nanos, predicted[i])
		}
		next, ok := nonNegative(prior, c, ms, weight)
		if !ok {
			break
		}
		c = next
	}
	return c
}

// scaled returns the prior times the median ratio of measured to predicted: a start that no single sample can spoil.
func scaled(prior Coef, ms []measurement) Coef {
	ratios := make([]float64, len(ms))
	for i, m := range ms {
		f := m.shape.features()
		ratios[i] = m.nanos / clamp(prior.roofline(&f))
	}
	ratio := median(ratios)
	for j := range prior {
		prior[j] = min(prior[j]*ratio, maxCoef)
	}
	return prior
}

// nonNegative solves the weighted problem. There are at most six coefficients, so each set of positive ones is solved in turn and the
// best feasible solution is the exact optimum: no active set has to be searched for.
func nonNegative(prior, last Coef, ms []measurement, weight []float64) (best Coef, ok bool) {
	lowest := math.Inf(1)
	for set := 1; set < 1<<numFeatures; set++ {
		var cols []int
		for j := range numFeatures {
			if set&(1<<j) != 0 {
				cols = append(cols, j)
			}
		}
		if c, cost, solved := solve(prior, last, ms, weight, cols); solved && cost < lowest {
			best, lowest, ok = c, cost, true
		}
	}
	return best, ok
}

// solve is the weighted least-squares problem with the coefficients outside cols held at zero.
func solve(prior, last Coef, ms []measurement, weight []float64, cols []int) (c Coef, cost float64, ok bool) {
	rows := len(ms) + numFeatures
	a, b := mat.NewDense(rows, len(cols), nil), mat.NewVecDense(rows, nil)
	for i, m := range ms {
		f := m.shape.features()
		b.SetVec(i, m.nanos*weight[i])
		for x, j := range cols {
			// Unknowns are in units of their prior: the columns are of like size then.
			a.Set(i, x, f[j]*unit(prior[j])*weight[i])
		}
	}
	for j := range numFeatures {
		w := pull * unit(prior[j]) / max(unit(prior[j]), last[j])
		if prior[j] > 0 {
			b.SetVec(len(ms)+j, w)
		}
		if x := slices.Index(cols, j); x >= 0 {
			a.Set(len(ms)+j, x, w)
		}
	}
	var z, r mat.VecDense
	if err := z.SolveVec(a, b); err != nil {
		return c, 0, false
	}
	r.MulVec(a, &z)
	r.SubVec(&r, b)
	for x, j := range cols {
		v := z.AtVec(x) * unit(prior[j])
		if !(v >= 0 && v <= maxCoef) {
			return c, 0, false
		}
		c[j] = v
	}
	return c, mat.Dot(&r, &r), true
}

func unit(prior float64) float64 {
	if prior > 0 {
		return prior
	}
	return 1e-3
}
