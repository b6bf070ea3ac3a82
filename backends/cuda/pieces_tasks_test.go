// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"context"
	"fmt"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

// cutTasks are calls of every op that is done in pieces, in the ways that they are cut.
func cutTasks() (list []task) {
	add := func(name string, op backends.Op, run func(d *data, b backends.Backend, k backends.Kernel) error) {
		list = append(list, task{name, op, "cuda", run})
	}
	const n = 300_000
	for _, c := range []struct {
		name string
		n    int
		o    quant.Options
	}{
		{"by rows", n, quant.Options{Levels: quant.Ternary, Rule: quant.AbsMean, Format: quant.Base3, Cols: 500, Group: 70}},
		{"by values", 256_000, quant.Options{Levels: quant.Ternary, Rule: quant.AbsMean, Format: quant.Bits2, Cols: 1024, Group: 128}},
		{"in one row", n, quant.Options{Levels: quant.Quinary, Rule: quant.LeastSquares, Format: quant.Int8, Cols: n, Group: 999}},
		{"in long groups", n, quant.Options{Levels: quant.Ternary, Rule: quant.Magnitude, Format: quant.Base3, Cols: n, Group: 5000}},
		{"with draws", 300 * 1001, quant.Options{Levels: quant.Ternary, Rule: quant.Stochastic, Format: quant.Base3, Cols: 1001, Group: 100}},
		{"with one scale", n, quant.Options{Levels: quant.Ternary, Rule: quant.AbsMean, Format: quant.Bits2, Cols: n}},
		{"with one scale by rows", n, quant.Options{Levels: quant.Ternary, Rule: quant.AbsMax, Format: quant.Base3, Cols: 500}},
		{"with one scale and draws", 300 * 1001, quant.Options{Levels: quant.Quinary, Rule: quant.Stochastic, Format: quant.Int8, Cols: 1001}},
	} {
		add("quantize "+c.name, backends.OpQuantize, func(d *data, b backends.Backend, k backends.Kernel) error {
			return b.Quantize(k, &backends.Quantize{X: in(d, values(d, c.n)), Rule: c.o.Rule, Seed: 11, Dst: outTensor(d, c.n/c.o.Cols, c.o)})
		})
	}
	for _, c := range []struct {
		name    string
		inPlace bool
		radius  float64
	}{{"", false, 3}, {" in place", true, 3}, {" inside", false, 1e6}, {" inside in place", true, 1e6}} {
		add("constrain"+c.name, backends.OpConstrain, func(d *data, b backends.Backend, k backends.Kernel) error {
			a := backends.Constrain{X: values(d, n), Radius: c.radius}
			if a.Dst = a.X; c.inPlace {
				inout(d, a.X)
			} else {
				in(d, a.X)
				a.Dst = out(d, make([]float32, n))
			}
			err := b.Constrain(k, &a)
			out(d, []float64{a.Norm})
			return err
		})
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
	add("norm2", backends.OpNorm2, reduce(false))
	add("dot", backends.OpDot, reduce(true))
	for _, o := range []quant.Options{
		{Levels: quant.Ternary, Rule: quant.LeastSquares, Format: quant.Bits2, Cols: 1000, Group: 1000},
		{Levels: quant.Ternary, Rule: quant.AbsMean, Format: quant.Base3, Cols: n},
		{Levels: quant.Quinary, Rule: quant.AbsMax, Format: quant.Int8, Cols: 1000},
	} {
		add(fmt.Sprintf("step %v", o.Rule), backends.OpStep, func(d *data, b backends.Backend, k backends.Kernel) error {
			a := backends.Step{Params: inout(d, values(d, n)), Delta: in(d, values(d, n)), Radius: 4, Rule: o.Rule, Dst: outTensor(d, n/o.Cols, o)}
			err := b.Step(k, &a)
			out(d, []float64{a.Norm})
			return err
		})
	}
	for _, c := range []struct {
		name string
		a    backends.MatMul
	}{
		{"by rows", backends.MatMul{M: 2000, N: 40, K: 100, LDA: 101, LDB: 40, LDC: 40, Batch: 1}},
		{"added", backends.MatMul{M: 2000, N: 40, K: 100, LDA: 100, LDB: 100, LDC: 43, Batch: 1, TransB: true, Accumulate: true}},
		{"of a batch", backends.MatMul{M: 20, N: 30, K: 100, LDA: 20, LDB: 30, LDC: 30, Batch: 70, StrideA: 2000, StrideC: 600, TransA: true}},
		{"by columns of A", backends.MatMul{M: 2000, N: 40, K: 100, LDA: 2003, LDB: 40, LDC: 40, Batch: 1, TransA: true}},
		{"by columns of A, added", backends.MatMul{M: 2000, N: 40, K: 100, LDA: 2000, LDB: 100, LDC: 43, Batch: 1, TransA: true, TransB: true, Accumulate: true}},
		{"of a row", backends.MatMul{M: 1, N: 1500, K: 200, LDA: 200, LDB: 200, LDC: 1500, Batch: 1, TransB: true}},
	} {
		add("matmul "+c.name, backends.OpMatMul, func(d *data, b backends.Backend, k backends.Kernel) error {
			a := c.a
			rows := a.M
			if a.TransA {
				rows = a.K
			}
			a.A, a.B, a.C = in(d, values(d, a.Batch*rows*a.LDA)), in(d, values(d, max(a.K, a.N)*a.LDB)), values(d, a.Batch*a.M*a.LDC)
			if a.Accumulate {
				inout(d, a.C)
			} else {
				out(d, a.C)
			}
			return b.MatMul(k, &a)
		})
	}
	codes := func(d *data, rows, cols, group int) *quant.Tensor {
		t := &quant.Tensor{Rows: rows, Cols: cols, Levels: quant.Ternary, Format: quant.Int8, Group: group, Codes: make([]int8, rows*cols), Scales: []float32{0.25}}
		if group > 0 {
			t.Scales = values(d, rows*((cols-1)/group+1))
		}
		in(d, t.Scales)
		for i := range t.Codes {
			t.Codes[i] = int8(d.r.IntN(3)) - 1
		}
		in(d, t.Codes)
		return t
	}
	planes := func(d *data, rows, cols, group int) (*quant.Tensor, error) {
		t, err := codes(d, rows, cols, group).Convert(nil, quant.Planes)
		if err == nil {
			in(d, t.Packed)
			in(d, t.Signs)
			in(d, t.Index)
		}
		return t, err
	}
	for _, c := range [][5]int{{2000, 300, 3, 100}, {1500, 400, 1, 0}, {40, 300, 2000, 0}, {2000, 301, 3, 70, 1}, {5000, 100, 1, 0, 1}} {
		name := []string{"ternary", "ternary planes"}[c[4]]
		add(fmt.Sprintf("%s %d by %d", name, c[0], c[2]), backends.OpTernary, func(d *data, b backends.Backend, k backends.Kernel) (err error) {
			a := backends.Ternary{W: codes(d, c[0], c[1], c[3]), X: new(quant.Activations), Out: out(d, make([]float32, c[2]*c[0]))}
			if c[4] == 1 {
				if a.W, err = planes(d, c[0], c[1], c[3]); err != nil {
					return err
				}
			}
			a.X.Resize(c[2], c[1])
			for i := range a.X.Codes {
				a.X.Codes[i] = int8(d.r.IntN(255) - 127)
			}
			copy(a.X.Scales, values(d, c[2]))
			in(d, a.X.Codes)
			in(d, a.X.Scales)
			return b.Ternary(k, &a)
		})
	}
	for _, c := range [][2]int{{1, 2 * n}, {600, 1001}} {
		add(fmt.Sprintf("recode %dx%d", c[0], c[1]), backends.OpRecode, func(d *data, b backends.Backend, k backends.Kernel) error {
			from := codes(d, c[0], c[1], 0)
			to, err := from.Frame(nil, quant.Base3)
			if err != nil {
				return err
			}
			out(d, to.Packed)
			return b.Recode(k, &backends.Recode{From: from, To: to})
		})
	}
	for _, to := range []quant.Format{quant.Int8, quant.Base3} {
		add(fmt.Sprintf("recode planes to %v", to), backends.OpRecode, func(d *data, b backends.Backend, k backends.Kernel) error {
			from, err := planes(d, 600, 1280, 0)
			if err != nil {
				return err
			}
			to, err := from.Frame(nil, to)
			if err != nil {
				return err
			}
			out(d, to.Packed)
			out(d, to.Codes)
			return b.Recode(k, &backends.Recode{From: from, To: to})
		})
	}
	add("activations", backends.OpActivations, func(d *data, b backends.Backend, k backends.Kernel) error {
		a := new(quant.Activations)
		a.Resize(n/600, 600)
		out(d, a.Codes)
		out(d, a.Scales)
		return b.Activations(k, &backends.Activations{X: in(d, values(d, n)), Dst: a})
	})
	const cols = 200
	add("rmsnorm", backends.OpRMSNorm, func(d *data, b backends.Backend, k backends.Kernel) error {
		a := backends.RMSNorm{X: inout(d, values(d, n)), Cols: cols, Delta: in(d, values(d, n)), Gain: in(d, values(d, cols)), Scale: out(d, make([]float32, n/cols)), Out: out(d, make([]float32, n)), Epsilon: 1e-5}
		a.Sum = a.X
		return b.RMSNorm(k, &a)
	})
	add("rmsnorm gradient in place", backends.OpRMSNorm, func(d *data, b backends.Backend, k backends.Kernel) error {
		a := backends.RMSNorm{X: in(d, values(d, n)), Cols: cols, Gain: in(d, values(d, cols)), Scale: in(d, values(d, n/cols)), DY: inout(d, values(d, n)), DGain: inout(d, values(d, cols)), Parts: make([]float32, (n/cols/backends.NormBlock+1)*cols)}
		a.Out = a.DY
		return b.RMSNorm(k, &a)
	})
	add("rmsnorm gradient added", backends.OpRMSNorm, func(d *data, b backends.Backend, k backends.Kernel) error {
		return b.RMSNorm(k, &backends.RMSNorm{X: in(d, values(d, n)), Cols: cols, Scale: in(d, values(d, n/cols)), DY: in(d, values(d, n)), Out: inout(d, values(d, n)), Add: true})
	})
	add("softmax", backends.OpSoftmax, func(d *data, b backends.Backend, k backends.Kernel) error {
		return b.Softmax(k, &backends.Softmax{X: inout(d, values(d, n)), Cols: cols, Period: 7, Scale: 0.5, Factor: 1, Stats: out(d, make([]float64, 2*n/cols))})
	})
	add("softmax gradient", backends.OpSoftmax, func(d *data, b backends.Backend, k backends.Kernel) error {
		return b.Softmax(k, &backends.Softmax{X: inout(d, values(d, n)), Cols: cols, P: in(d, values(d, n)), Scale: 0.5})
	})
	add("activate", backends.OpActivate, func(d *data, b backends.Backend, k backends.Kernel) error {
		return b.Activate(k, &backends.Activate{Function: backends.ReLU2, X: in(d, values(d, n)), Cols: n, Out: out(d, make([]float32, n))})
	})
	add("activate gradient", backends.OpActivate, func(d *data, b backends.Backend, k backends.Kernel) error {
		a := backends.Activate{Function: backends.SwiGLU, X: inout(d, values(d, n)), Cols: 50, DY: in(d, values(d, n/2))}
		a.Out = a.X
		return b.Activate(k, &a)
	})
	for _, m := range []backends.Method{backends.AdamW, backends.Momentum} {
		add(fmt.Sprintf("update method=%d", m), backends.OpUpdate, func(d *data, b backends.Backend, k backends.Kernel) error {
			a := backends.Update{Method: m, Value: in(d, values(d, n)), Grad: in(d, values(d, n)), M: inout(d, values(d, n)), Delta: out(d, make([]float32, n)),
				Rate: 1e-3, Decay: 0.1, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Unbias1: 2, Unbias2: 20}
			if m == backends.AdamW {
				a.V = values(d, n)
				for i, v := range a.V {
					a.V[i] = v * v
				}
				inout(d, a.V)
			}
			return b.Update(k, &a)
		})
	}
	for _, c := range []struct {
		name    string
		inPlace bool
		rows    int // 0: by offsets
		radius  float64
	}{{"by offsets", false, 0, 2}, {"by offsets in place", true, 0, 2}, {"by offsets inside in place", true, 0, 1e6}, {"by labels", false, 5000, 2}, {"by labels in place", true, 5000, 2}, {"by labels of long rows", true, 30, 2}} {
		add("clusters "+c.name, backends.OpClusters, func(d *data, b backends.Backend, k backends.Kernel) error {
			a := backends.Clusters{X: values(d, n), Radii: []float64{c.radius, 1e9, c.radius / 2, 0}, Norms: out(d, make([]float64, 4))}
			if c.radius > 1e3 {
				a.Radii[2], a.Radii[3] = c.radius, c.radius
			}
			in(d, a.Radii)
			if a.Dst = a.X; c.inPlace {
				inout(d, a.X)
			} else {
				in(d, a.X)
				a.Dst = out(d, make([]float32, n))
			}
			if c.rows == 0 { // two have hundreds of chunks, one of them begins within one, one is empty and one is short
				a.Offsets = in(d, []int64{0, 141_001, 141_001, 141_990, n})
			} else {
				a.Labels = make([]int32, c.rows)
				for i := range a.Labels {
					a.Labels[i] = int32(i%5) - 1
				}
				in(d, a.Labels)
			}
			return b.ConstrainClusters(k, &a)
		})
	}
	for _, c := range []struct {
		name, kind string
		d          int
		set        func(d *data, a *backends.KMeans)
	}{
		{"", "cuda", 17, func(*data, *backends.KMeans) {}},
		{" screened", "screen", 20, func(*data, *backends.KMeans) {}},
		{" by direction, weighted", "cuda", 19, func(d *data, a *backends.KMeans) {
			a.Cosine, a.Weights, a.Tol = true, values(d, a.N), 1e-9
			for i, w := range a.Weights {
				a.Weights[i] = w * w
			}
		}},
	} {
		list = append(list, task{"kmeans" + c.name, backends.OpKMeans, c.kind, func(d *data, b backends.Backend, k backends.Kernel) error {
			a := backends.KMeans{N: 9000, D: c.d, K: 5, MaxIter: 3, Seed: 5}
			a.X, a.Labels, a.Centroids, a.Counts = in(d, values(d, a.N*a.D)), out(d, make([]int32, a.N)), out(d, make([]float32, a.K*a.D)), out(d, make([]int64, a.K))
			c.set(d, &a)
			err := b.KMeans(context.Background(), k, &a)
			out(d, []float64{a.Inertia})
			return err
		}})
	}
	return list
}
