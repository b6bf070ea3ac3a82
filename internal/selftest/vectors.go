// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

// trialsOf returns the trials of an op: below a lane, around lanes and blocks, and past a chunk of 4096 values, which is where threads get parts.
func trialsOf(op backends.Op) []*trial {
	switch op {
	case backends.OpQuantize:
		return quantizeTrials()
	case backends.OpConstrain:
		return constrainTrials()
	case backends.OpDot, backends.OpNorm2:
		return reduceTrials(op)
	case backends.OpKMeans:
		return kmeansTrials()
	case backends.OpMatMul:
		return matmulTrials()
	case backends.OpClusters:
		return clustersTrials()
	case backends.OpStep:
		return stepTrials()
	case backends.OpActivations:
		return activationsTrials()
	case backends.OpTernary:
		return ternaryTrials()
	case backends.OpRecode:
		return recodeTrials()
	case backends.OpRMSNorm:
		return normTrials()
	case backends.OpSoftmax:
		return softmaxTrials()
	case backends.OpActivate:
		return activateTrials()
	case backends.OpUpdate:
		return updateTrials()
	}
	return nil
}

// tensor is a destination for n values; options have their defaults.
func tensor(g *ground, n int, o quant.Options) quant.Tensor {
	var t quant.Tensor
	t.Resize(n/o.Cols, o)
	t.Codes, t.Packed, t.Scales = output[int8](g, len(t.Codes)), output[byte](g, len(t.Packed)), output[float32](g, len(t.Scales))
	return t
}

func takeTensor(r *results, t *quant.Tensor) {
	take(r, "scale", t.Scales)
	take(r, "code", t.Codes)
	take(r, "packed", t.Packed)
}

// layouts are quantizations that between them have every rule, format and kind of group.
var layouts = []struct {
	n int
	o quant.Options
}{
	{7, quant.Options{}},
	{3 * 65, quant.Options{Cols: 65, Group: 16, Rule: quant.LeastSquares, Format: quant.Bits2}},
	{2 * 161, quant.Options{Cols: 161, Group: quant.PerRow, Rule: quant.AbsMax, Format: quant.Base3}},
	{333, quant.Options{Rule: quant.Stochastic, Seed: 5}},
	{4099, quant.Options{Rule: quant.Magnitude, Levels: quant.Quinary, Group: 100}},
}

func quantizeTrials() (list []*trial) {
	for i, l := range layouts {
		list = append(list, quantizeTrial(l.n, l.o, uint64(i)))
	}
	return list
}

func quantizeTrial(n int, o quant.Options, seed uint64) *trial {
	x := values(n, seed)
	o = o.WithDefaults(n)
	return &trial{shape: fmt.Sprintf("%d values, rows of %d, groups of %d, %v %v %v", n, o.Cols, o.Group, o.Levels, o.Rule, o.Format), call: func(t *try) error {
		dst := tensor(&t.ground, len(x), o)
		err := t.backend.Quantize(t.kernel, &backends.Quantize{X: input(&t.ground, x), Rule: o.Rule, Seed: o.Seed, Dst: &dst})
		takeTensor(&t.out, &dst)
		return err
	}}
}

func stepTrials() (list []*trial) {
	for i, l := range layouts {
		list = append(list, stepTrial(l.n, l.o, []float64{1, math.Inf(1), 3}[i%3], uint64(i)))
	}
	return list
}

func stepTrial(n int, o quant.Options, radius float64, seed uint64) *trial {
	params, delta := values(n, seed), values(n, seed+50)
	o = o.WithDefaults(n)
	return &trial{shape: fmt.Sprintf("%d values, groups of %d, radius %v", n, o.Group, radius), call: func(t *try) error {
		dst := tensor(&t.ground, len(params), o)
		a := backends.Step{Params: inout(&t.ground, params), Delta: input(&t.ground, delta), Radius: radius, Rule: o.Rule, Seed: o.Seed, Dst: &dst}
		err := t.backend.Step(t.kernel, &a)
		take(&t.out, "norm", []float64{a.Norm})
		take(&t.out, "parameter", a.Params)
		takeTensor(&t.out, &dst)
		return err
	}}
}

func constrainTrials() (list []*trial) {
	for i, n := range []int{7, 321, 4099} {
		list = append(list, constrainTrial(n, []float64{0.5, 1e9, 2}[i], i > 0))
	}
	return list
}

func constrainTrial(n int, radius float64, inPlace bool) *trial {
	x := values(n, uint64(n))
	return &trial{shape: fmt.Sprintf("%d values, radius %v", n, radius), call: func(t *try) error {
		a := backends.Constrain{Radius: radius}
		if inPlace {
			a.X = inout(&t.ground, x)
			a.Dst = a.X
		} else {
			a.X, a.Dst = input(&t.ground, x), output[float32](&t.ground, n)
		}
		err := t.backend.Constrain(t.kernel, &a)
		take(&t.out, "norm", []float64{a.Norm})
		take(&t.out, "value", a.Dst)
		return err
	}}
}

func reduceTrials(op backends.Op) (list []*trial) {
	// An order of its own changes a sum by its last bit, and not always: some lengths, until luck is no explanation.
	for _, n := range []int{7, 65, 100, 321, 500, 1000, 2047, 4099, 9001} {
		list = append(list, reduceTrial(op, n))
	}
	return list
}

func reduceTrial(op backends.Op, n int) *trial {
	x, y := wide(n, uint64(n)), wide(n, uint64(n+1))
	if op == backends.OpNorm2 {
		y = nil
	}
	return &trial{shape: fmt.Sprintf("%d values", n), call: func(t *try) error {
		a := backends.Reduce{X: input(&t.ground, x), Y: input(&t.ground, y)}
		err := t.backend.Reduce(t.kernel, &a)
		take(&t.out, "result", []float64{a.Result})
		return err
	}}
}

func clustersTrials() (list []*trial) {
	for _, c := range []struct {
		n int
		a backends.Clusters
	}{
		{40, backends.Clusters{Offsets: []int64{0, 1, 1, 33, 40}, Radii: []float64{0.5, 1, 1e9, 2}}},
		{5 * 33, backends.Clusters{Labels: []int32{1, -1, 0, 1, 0}, Radii: []float64{1, 3}}},
		{4110, backends.Clusters{Offsets: []int64{0, 4097, 4110}, Radii: []float64{1, math.Inf(1)}}},
	} {
		x := values(c.n, uint64(c.n))
		list = append(list, &trial{shape: fmt.Sprintf("%d values, %d clusters", c.n, len(c.a.Radii)), call: func(t *try) error {
			a := c.a
			a.X, a.Dst = input(&t.ground, x), output[float32](&t.ground, len(x))
			a.Offsets, a.Labels, a.Radii, a.Norms = input(&t.ground, a.Offsets), input(&t.ground, a.Labels), input(&t.ground, a.Radii), output[float64](&t.ground, len(a.Radii))
			err := t.backend.ConstrainClusters(t.kernel, &a)
			take(&t.out, "norm", a.Norms)
			take(&t.out, "value", a.Dst)
			return err
		}})
	}
	return list
}

func updateTrials() (list []*trial) {
	for i, n := range []int{7, 321, 4099} {
		list = append(list, updateTrial([]backends.Method{backends.AdamW, backends.Momentum, backends.AdamW}[i], n))
	}
	return list
}

func updateTrial(method backends.Method, n int) *trial {
	v := slices.Clone(values(n, 4))
	for i := range v {
		v[i] *= v[i]
	}
	if method != backends.AdamW {
		v = nil
	}
	value, grad, m := values(n, 1), values(n, 2), values(n, 3)
	return &trial{shape: fmt.Sprintf("%d values, method %d", n, method), call: func(t *try) error {
		g := &t.ground
		a := backends.Update{Method: method, Value: input(g, value), Grad: input(g, grad), M: inout(g, m), V: inout(g, v), Delta: output[float32](g, n),
			Rate: 3e-3, Decay: 0.01, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Unbias1: 1.7, Unbias2: 9.5}
		err := t.backend.Update(t.kernel, &a)
		take(&t.out, "step", a.Delta)
		take(&t.out, "moment", a.M)
		take(&t.out, "second moment", a.V)
		return err
	}}
}

// manyTrial is a list of problems, in one call of kernels that have it.
func manyTrial() *trial {
	return &trial{shape: "3 problems of 7 columns, k=5", many: true, call: func(t *try) error {
		many := &backends.KMeansMany{}
		for i, n := range []int{40, 9, 23} {
			many.Fits = append(many.Fits, &backends.KMeans{X: input(&t.ground, values(n*7, uint64(i))), N: n, D: 7, K: 5, Seed: 3, MaxIter: 2, Tol: 1e-3,
				Labels: output[int32](&t.ground, n), Centroids: output[float32](&t.ground, 5*7), Counts: output[int64](&t.ground, 5)})
		}
		var err error
		if t.kernel.Many {
			err = t.backend.(backends.Together).KMeansMany(context.Background(), t.kernel, many)
		} else { // pure Go
			for _, a := range many.Fits {
				err = errors.Join(err, t.backend.KMeans(context.Background(), t.kernel, a))
			}
		}
		for _, a := range many.Fits {
			take(&t.out, "label", a.Labels)
			take(&t.out, "centroid value", a.Centroids)
			take(&t.out, "count", a.Counts)
		}
		return err
	}}
}

func kmeansTrials() (list []*trial) {
	add := func(a backends.KMeans, exact bool) {
		list = append(list, &trial{shape: a.Shape(), exact: exact, call: func(t *try) error {
			a := a
			a.X, a.Weights, a.Initial = input(&t.ground, a.X), input(&t.ground, a.Weights), input(&t.ground, a.Initial)
			a.Labels, a.Centroids, a.Counts = output[int32](&t.ground, a.N), output[float32](&t.ground, a.K*a.D), output[int64](&t.ground, a.K)
			err := t.backend.KMeans(context.Background(), t.kernel, &a)
			take(&t.out, "label", a.Labels)
			take(&t.out, "centroid value", a.Centroids)
			take(&t.out, "count", a.Counts)
			if !exact { // a sum that kernels need not have in common when their labels are not canonical
				take(&t.out, "inertia", []float64{a.Inertia})
			}
			return err
		}})
	}
	add(backends.KMeans{X: values(40*7, 1), N: 40, D: 7, K: 9, Seed: 1, MaxIter: 2}, false)
	add(backends.KMeans{X: values(39*33, 2), N: 39, D: 33, K: 17, Seed: 2, MaxIter: 1, Cosine: true, Weights: positive(39, 2)}, false)
	list = append(list, manyTrial())
	x := apart(75, 17, 70, 3) // two panels of 32 points, and a part of one
	add(backends.KMeans{X: x, N: 75, D: 17, K: 70, Initial: x[:70*17], MaxIter: 1}, true)
	return list
}
