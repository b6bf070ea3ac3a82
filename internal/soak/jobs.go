// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

// job is a call with its arguments, and the digest of what pure Go makes of it.
type job struct {
	op   backends.Op
	name string
	call func(ctx context.Context, rt *setun.Runtime, d *digest) error
	want uint64
}

var seed = maphash.MakeSeed()

var formats = []quant.Format{quant.Int8, quant.Bits2, quant.Base3}

// digest takes in a call's results, by their bits.
type digest struct{ h maphash.Hash }

func (d *digest) floats(x []float32) {
	var b [4096]byte
	for len(x) > 0 {
		n := min(len(x), len(b)/4)
		for i, v := range x[:n] {
			binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
		}
		d.h.Write(b[:4*n])
		x = x[n:]
	}
}

func (d *digest) number(v float64) { d.word(math.Float64bits(v)) }

func (d *digest) word(v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	d.h.Write(b[:])
}

func (d *digest) codes(c []int8) {
	var b [4096]byte
	for len(c) > 0 {
		n := min(len(c), len(b))
		for i, v := range c[:n] {
			b[i] = byte(v)
		}
		d.h.Write(b[:n])
		c = c[n:]
	}
}

func (d *digest) tensor(t *quant.Tensor) {
	d.codes(t.Codes)
	d.h.Write(t.Packed)
	d.floats(t.Scales)
}

// run makes the call and says whether the result is that of pure Go.
func (j *job) run(ctx context.Context, rt *setun.Runtime) (right bool, err error) {
	got, err := j.digest(ctx, rt)
	return got == j.want, err
}

func (j *job) digest(ctx context.Context, rt *setun.Runtime) (uint64, error) {
	var d digest
	d.h.SetSeed(seed)
	err := j.call(ctx, rt, &d)
	return d.h.Sum64(), err
}

// newJobs makes n jobs of each op, of sizes from a few values to most, evenly by their logarithm. pure is a runtime in pure Go.
func newJobs(pure *setun.Runtime, r *rand.Rand, n, most int) ([]*job, error) {
	var all []*job
	for i := range n {
		size := func(least int) int {
			return int(float64(least) * math.Exp(r.Float64()*math.Log(float64(most)/float64(least))))
		}
		for _, j := range makers(pure, r, i, size) {
			var err error
			if j.want, err = j.digest(context.Background(), pure); err != nil {
				return nil, fmt.Errorf("%s: %w", j.name, err)
			}
			all = append(all, j)
		}
	}
	return all, nil
}

func random(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// makers returns a job of each op. i chooses among their options.
func makers(pure *setun.Runtime, r *rand.Rand, i int, size func(least int) int) []*job {
	n := size(4)
	x, y, z := random(r, n), random(r, n), random(r, n)
	cols := 1 + r.IntN(min(n, 300))
	rows := n / cols
	n = rows * cols
	var list []*job
	add := func(op backends.Op, call func(ctx context.Context, rt *setun.Runtime, d *digest) error) {
		list = append(list, &job{op: op, name: fmt.Sprintf("%s of %dx%d, way %d", op, rows, cols, i), call: call})
	}
	opts := quant.Options{Rule: quant.Rule(i % 5), Cols: cols, Group: []int{0, cols, max(1, cols/3)}[i%3], Format: formats[i%3], Seed: uint64(i)}
	add(backends.OpQuantize, func(ctx context.Context, rt *setun.Runtime, d *digest) error {
		t, err := rt.QuantizeContext(ctx, nil, x[:n], opts)
		if err == nil {
			d.tensor(t)
		}
		return err
	})
	add(backends.OpConstrain, func(ctx context.Context, rt *setun.Runtime, d *digest) error {
		dst := slices.Clone(x)
		_, norm, err := rt.ConstrainContext(ctx, dst, dst, []float64{0.5, math.Inf(1)}[i%2])
		d.floats(dst)
		d.number(norm)
		return err
	})
	add(backends.OpClusters, func(ctx context.Context, rt *setun.Runtime, d *digest) error {
		c := &setun.Clusters{Offsets: []int64{0, int64(len(x) / 3), int64(len(x))}, Radii: []float64{1, 0.1}}
		dst, err := rt.ConstrainClustersContext(ctx, nil, x, c)
		d.floats(dst)
		d.number(c.Norms[1])
		return err
	})
	add(backends.OpDot, func(_ context.Context, rt *setun.Runtime, d *digest) error {
		v, err := rt.Dot(x, y)
		d.number(v)
		return err
	})
	add(backends.OpNorm2, func(_ context.Context, rt *setun.Runtime, d *digest) error {
		v, err := rt.Norm2(x)
		d.number(v)
		return err
	})
	add(backends.OpStep, func(ctx context.Context, rt *setun.Runtime, d *digest) error {
		params := slices.Clone(x[:n])
		t, norm, err := rt.StepContext(ctx, nil, params, y[:n], 0.3, opts)
		if err == nil {
			d.tensor(t)
		}
		d.floats(params)
		d.number(norm)
		return err
	})
	points, d2 := min(rows, 400), min(cols, 24)
	add(backends.OpKMeans, func(ctx context.Context, rt *setun.Runtime, d *digest) error {
		c, err := rt.KMeans(ctx, nil, x[:points*d2], d2, setun.KMeansOptions{K: 1 + points/20, Seed: uint64(i), MaxIter: 8})
		if err == nil {
			d.floats(c.Centroids)
			d.number(c.Inertia)
		}
		return err
	})
	m, k := min(rows, 60), min(cols, 120)
	add(backends.OpMatMul, func(ctx context.Context, rt *setun.Runtime, d *digest) error {
		c, err := rt.MatMulContext(ctx, nil, x[:m*k], y[:m*k], m, m, k, setun.MatMulOptions{TransB: true})
		d.floats(c)
		return err
	})
	w, e1 := pure.Quantize(nil, y[:n], quant.Options{Cols: cols, Format: opts.Format})
	a, e2 := pure.QuantizeActivations(nil, x[:min(rows, 5)*cols], cols)
	add(backends.OpActivations, func(_ context.Context, rt *setun.Runtime, d *digest) error {
		q, err := rt.QuantizeActivations(nil, x[:n], cols)
		if err == nil {
			d.codes(q.Codes)
			d.floats(q.Scales)
		}
		return err
	})
	add(backends.OpTernary, func(ctx context.Context, rt *setun.Runtime, d *digest) error {
		out, err := rt.TernaryMatMulContext(ctx, nil, a, w)
		d.floats(out)
		return errors.Join(e1, e2, err)
	})
	add(backends.OpRecode, func(_ context.Context, rt *setun.Runtime, d *digest) error {
		t, err := rt.Convert(nil, w, formats[(i+1)%3])
		if err == nil {
			d.tensor(t)
		}
		return err
	})
	add(backends.OpRMSNorm, func(_ context.Context, rt *setun.Runtime, d *digest) error {
		out, scale := slices.Clone(z[:n]), make([]float32, rows)
		err := rt.RMSNorm(setun.RMSNorm{X: x[:n], Cols: cols, Gain: y[:cols], Out: out, Scale: scale, Epsilon: 1e-5})
		d.floats(out)
		d.floats(scale)
		return err
	})
	add(backends.OpSoftmax, func(_ context.Context, rt *setun.Runtime, d *digest) error {
		p := slices.Clone(x[:n])
		err := rt.Softmax(setun.Softmax{X: p, Cols: cols, Period: i % 2 * cols, Scale: 0.5, Factor: 1})
		d.floats(p)
		return err
	})
	add(backends.OpActivate, func(_ context.Context, rt *setun.Runtime, d *digest) error {
		dy := slices.Clone(x[:n])
		err := rt.Activate(setun.Activate{Function: setun.ReLU2, X: dy, Cols: cols, DY: y[:n], Out: dy})
		d.floats(dy)
		return err
	})
	add(backends.OpUpdate, func(_ context.Context, rt *setun.Runtime, d *digest) error {
		mm, v, delta := slices.Clone(y), make([]float32, len(x)), make([]float32, len(x))
		err := rt.Update(setun.Update{Method: setun.AdamW, Value: x, Grad: z, M: mm, V: v, Delta: delta, Rate: 1e-3, Decay: 0.1, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Unbias1: 10, Unbias2: 100})
		d.floats(mm)
		d.floats(v)
		d.floats(delta)
		return err
	})
	return list
}
