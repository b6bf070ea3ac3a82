// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cuda"
	"github.com/setun-compute/setun/quant"
)

// task is a call with data of its own: its result as bytes, and whether a call that failed left what it must not touch as it was.
type task struct {
	name string
	op   backends.Op
	kind string // name of the kernel
	run  func(d *data, b backends.Backend, k backends.Kernel) error
}

type data struct {
	r           *rand.Rand
	fixed, both [][2][]byte // inputs, and what a call changes in place, now and as they were
	out         [][]byte
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

func values(d *data, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(d.r.NormFloat64())
	}
	return x
}

func in[E int8 | uint8 | int32 | int64 | float32 | float64](d *data, x []E) []E {
	d.fixed = append(d.fixed, [2][]byte{backends.Bytes(x), backends.Bytes(slices.Clone(x))})
	return x
}

func inout(d *data, x []float32) []float32 {
	d.both = append(d.both, [2][]byte{backends.Bytes(x), backends.Bytes(slices.Clone(x))})
	d.out = append(d.out, backends.Bytes(x))
	return x
}

func out[E int8 | uint8 | int32 | int64 | float32 | float64](d *data, x []E) []E {
	d.out = append(d.out, backends.Bytes(x))
	return x
}

func outTensor(d *data, rows int, o quant.Options) *quant.Tensor {
	t := new(quant.Tensor)
	t.Resize(rows, o)
	out(d, t.Codes)
	out(d, t.Packed)
	out(d, t.Scales)
	return t
}

// do runs a task. The result is nil after an error.
func (c *task) do(b backends.Backend) (result []byte, err error) {
	d := &data{r: random(uint64(c.op))}
	var k backends.Kernel
	for _, have := range b.Kernels() {
		if have.Op == c.op && (b.Name() != cuda.Name || have.Name == c.kind) {
			k = have
			break
		}
	}
	err = c.run(d, b, k)
	for _, pair := range d.fixed {
		if !bytes.Equal(pair[0], pair[1]) {
			return nil, fmt.Errorf("%s: an input was changed (%w)", c.name, err)
		}
	}
	if err == nil {
		return bytes.Join(d.out, nil), nil
	}
	for _, pair := range d.both {
		if !bytes.Equal(pair[0], pair[1]) {
			return nil, fmt.Errorf("%s: data was changed in place by a call that failed (%v)", c.name, err)
		}
	}
	return nil, err
}

// tasks has every op, small and fast: what is in place is longer than what comes back with the results of a call at once, 64 KiB.
func tasks() []task {
	const n = 20_000
	quantize := func(o quant.Options, n int) func(d *data, b backends.Backend, k backends.Kernel) error {
		return func(d *data, b backends.Backend, k backends.Kernel) error {
			return b.Quantize(k, &backends.Quantize{X: in(d, values(d, n)), Rule: o.Rule, Dst: outTensor(d, n/o.Cols, o)})
		}
	}
	constrain := func(n int, inPlace bool) func(d *data, b backends.Backend, k backends.Kernel) error {
		return func(d *data, b backends.Backend, k backends.Kernel) error {
			a := backends.Constrain{X: values(d, n), Radius: 3}
			if a.Dst = a.X; inPlace {
				inout(d, a.X)
			} else {
				in(d, a.X)
				a.Dst = out(d, make([]float32, n))
			}
			err := b.Constrain(k, &a)
			out(d, []float64{a.Norm})
			return err
		}
	}
	kmeans := func(d *data, b backends.Backend, k backends.Kernel) error {
		a := backends.KMeans{N: 300, D: 6, K: 4, MaxIter: 3, Seed: 5}
		a.X, a.Labels, a.Centroids, a.Counts = in(d, values(d, a.N*a.D)), out(d, make([]int32, a.N)), out(d, make([]float32, a.K*a.D)), out(d, make([]int64, a.K))
		err := b.KMeans(context.Background(), k, &a)
		out(d, []float64{a.Inertia})
		return err
	}
	many := func(d *data, b backends.Backend, k backends.Kernel) (err error) {
		list := &backends.KMeansMany{}
		for n := range 6 {
			a := backends.KMeans{N: 50 + n, D: 6, K: 4, MaxIter: 5, Seed: 5}
			a.X, a.Labels, a.Centroids, a.Counts = in(d, values(d, a.N*a.D)), out(d, make([]int32, a.N)), out(d, make([]float32, a.K*a.D)), out(d, make([]int64, a.K))
			list.Fits = append(list.Fits, &a)
		}
		if t, is := b.(backends.Together); is {
			err = t.KMeansMany(context.Background(), k, list)
		} else {
			for _, a := range list.Fits {
				err = errors.Join(err, b.KMeans(context.Background(), k, a))
			}
		}
		for _, a := range list.Fits {
			out(d, []float64{a.Inertia})
		}
		return err
	}
	matmul := func(accumulate bool) func(d *data, b backends.Backend, k backends.Kernel) error {
		return func(d *data, b backends.Backend, k backends.Kernel) error {
			a := backends.MatMul{M: 150, N: 120, K: 9, LDA: 9, LDB: 120, LDC: 120, Batch: 1, Accumulate: accumulate}
			a.A, a.B, a.C = in(d, values(d, a.M*a.K)), in(d, values(d, a.K*a.N)), values(d, a.M*a.N)
			if accumulate {
				inout(d, a.C)
			} else {
				out(d, a.C)
			}
			return b.MatMul(k, &a)
		}
	}
	clusters := func(labels bool) func(d *data, b backends.Backend, k backends.Kernel) error {
		return func(d *data, b backends.Backend, k backends.Kernel) error {
			a := backends.Clusters{X: inout(d, values(d, n)), Radii: in(d, []float64{1, 2, 1e9}), Norms: out(d, make([]float64, 3))}
			if a.Dst = a.X; labels {
				a.Labels = make([]int32, n/50)
				for i := range a.Labels {
					a.Labels[i] = int32(i%4) - 1
				}
				in(d, a.Labels)
			} else {
				a.Offsets = in(d, []int64{0, 9000, 9000, n})
			}
			return b.ConstrainClusters(k, &a)
		}
	}
	reduce := func(y bool) func(d *data, b backends.Backend, k backends.Kernel) error {
		return func(d *data, b backends.Backend, k backends.Kernel) error {
			a := backends.Reduce{X: in(d, values(d, n))}
			if y {
				a.Y = in(d, values(d, n))
			}
			err := b.Reduce(k, &a)
			out(d, []float64{a.Result})
			return err
		}
	}
	step := func(d *data, b backends.Backend, k backends.Kernel) error {
		a := backends.Step{Params: inout(d, values(d, n)), Delta: in(d, values(d, n)), Radius: 4, Rule: quant.AbsMean}
		a.Dst = outTensor(d, n/1000, quant.Options{Levels: quant.Ternary, Format: quant.Bits2, Cols: 1000})
		err := b.Step(k, &a)
		out(d, []float64{a.Norm})
		return err
	}
	activations := func(d *data, b backends.Backend, k backends.Kernel) error {
		a := new(quant.Activations)
		a.Resize(5, 600)
		out(d, a.Codes)
		out(d, a.Scales)
		return b.Activations(k, &backends.Activations{X: in(d, values(d, 3000)), Dst: a})
	}
	codes := func(d *data, rows, cols int) *quant.Tensor {
		t := &quant.Tensor{Rows: rows, Cols: cols, Levels: quant.Ternary, Format: quant.Int8, Codes: make([]int8, rows*cols), Scales: in(d, []float32{0.25})}
		for i := range t.Codes {
			t.Codes[i] = int8(d.r.IntN(3)) - 1
		}
		in(d, t.Codes)
		return t
	}
	ternary := func(d *data, b backends.Backend, k backends.Kernel) error {
		a := backends.Ternary{W: codes(d, 40, 700), X: new(quant.Activations), Out: out(d, make([]float32, 3*40))}
		a.X.Resize(3, 700)
		for i := range a.X.Codes {
			a.X.Codes[i] = int8(d.r.IntN(255) - 127)
		}
		copy(a.X.Scales, values(d, 3))
		in(d, a.X.Codes)
		in(d, a.X.Scales)
		return b.Ternary(k, &a)
	}
	recode := func(d *data, b backends.Backend, k backends.Kernel) error {
		from := codes(d, 30, 701)
		to, err := from.Frame(nil, quant.Base3)
		if err != nil {
			return err
		}
		out(d, to.Packed)
		return b.Recode(k, &backends.Recode{From: from, To: to})
	}
	const rows, cols = 100, 200
	norm := func(d *data, b backends.Backend, k backends.Kernel) error { // of long rows; the sum takes the place of x
		a := backends.RMSNorm{X: inout(d, values(d, n)), Cols: n / 2, Delta: in(d, values(d, n)), Gain: in(d, values(d, n/2)), Scale: out(d, make([]float32, 2)), Out: out(d, make([]float32, n)), Epsilon: 1e-5}
		a.Sum = a.X
		return b.RMSNorm(k, &a)
	}
	normGradient := func(d *data, b backends.Backend, k backends.Kernel) error {
		a := backends.RMSNorm{X: in(d, values(d, n)), Cols: cols, Gain: in(d, values(d, cols)), Scale: in(d, values(d, rows)), DY: inout(d, values(d, n)), DGain: inout(d, values(d, cols)), Parts: make([]float32, 4*cols)}
		a.Out = a.DY
		return b.RMSNorm(k, &a)
	}
	softmax := func(d *data, b backends.Backend, k backends.Kernel) error { // of long rows
		return b.Softmax(k, &backends.Softmax{X: inout(d, values(d, n)), Cols: n / 2, Period: 7, Scale: 0.5, Factor: 1, Stats: out(d, make([]float64, 4))})
	}
	softmaxGradient := func(d *data, b backends.Backend, k backends.Kernel) error {
		return b.Softmax(k, &backends.Softmax{X: inout(d, values(d, n)), Cols: cols, P: in(d, values(d, n)), Scale: 0.5})
	}
	activate := func(d *data, b backends.Backend, k backends.Kernel) error {
		a := backends.Activate{Function: backends.SwiGLU, X: inout(d, values(d, 2*n)), Cols: cols, DY: in(d, values(d, n))}
		a.Out = a.X
		return b.Activate(k, &a)
	}
	update := func(d *data, b backends.Backend, k backends.Kernel) error {
		a := backends.Update{Method: backends.AdamW, Value: in(d, values(d, n)), Grad: in(d, values(d, n)), M: inout(d, values(d, n)), V: make([]float32, n), Delta: out(d, make([]float32, n)),
			Rate: 1e-3, Decay: 0.1, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Unbias1: 2, Unbias2: 20}
		for i := range a.V {
			a.V[i] = d.r.Float32()
		}
		inout(d, a.V)
		return b.Update(k, &a)
	}
	rounds := quant.Options{Levels: quant.Quinary, Rule: quant.LeastSquares, Format: quant.Int8, Cols: 5000}
	groups := quant.Options{Levels: quant.Ternary, Rule: quant.AbsMean, Format: quant.Base3, Cols: 500, Group: 50}
	return []task{
		{"quantize", backends.OpQuantize, "cuda", quantize(rounds, 5000)},
		{"quantize by groups", backends.OpQuantize, "cuda", quantize(groups, 5000)},
		{"constrain", backends.OpConstrain, "cuda", constrain(n, false)},
		{"constrain in place", backends.OpConstrain, "cuda", constrain(n, true)},
		{"dot", backends.OpDot, "cuda", reduce(true)},
		{"norm2", backends.OpNorm2, "cuda", reduce(false)},
		{"kmeans", backends.OpKMeans, "cuda", kmeans},
		{"kmeans screened", backends.OpKMeans, "screen", kmeans},
		{"many kmeans", backends.OpKMeans, "cuda", many},
		{"matmul", backends.OpMatMul, "cuda", matmul(false)},
		{"matmul added", backends.OpMatMul, "cuda", matmul(true)},
		{"clusters by offsets", backends.OpClusters, "cuda", clusters(false)},
		{"clusters by labels", backends.OpClusters, "cuda", clusters(true)},
		{"step", backends.OpStep, "cuda", step},
		{"activations", backends.OpActivations, "cuda", activations},
		{"ternary", backends.OpTernary, "cuda", ternary},
		{"recode", backends.OpRecode, "cuda", recode},
		{"rmsnorm", backends.OpRMSNorm, "cuda", norm},
		{"rmsnorm gradient", backends.OpRMSNorm, "cuda", normGradient},
		{"softmax", backends.OpSoftmax, "cuda", softmax},
		{"softmax gradient", backends.OpSoftmax, "cuda", softmaxGradient},
		{"activate gradient", backends.OpActivate, "cuda", activate},
		{"update", backends.OpUpdate, "cuda", update},
		{"long constrain in place", backends.OpConstrain, "cuda", constrain(1_200_000, true)},
	}
}

// short is all but the last task, which goes in pieces through pinned memory.
func short() []task { return tasks()[:len(tasks())-1] }
