// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/quant"
)

// little is the memory of the device in these tests, in bytes: calls have several times as much.
const little = 400_000

// A call that has several times the device's memory, or what the context may take of it, is done in pieces, with the bits of pure Go.
func TestPieces(t *testing.T) {
	faking(t)
	list := cutTasks()
	want := truth(t, list)
	for _, limited := range []bool{false, true} {
		b := mustOpen(t)
		if limited {
			if err := backends.DeviceOf(b).Limit(little); err != nil {
				t.Fatal(err)
			}
		} else {
			fake.memory(little)
		}
		for _, c := range list {
			before := fake.launches()
			if err := try(t, fmt.Sprint("limited ", limited), c, b, want[c.name]); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if n := fake.launches() - before; n < 4 {
				t.Errorf("%s: %d kernels: it was not done in pieces", c.name, n)
			}
		}
		fake.memory(256 << 20)
		closed(t, "in pieces", b)
	}
}

// Memory that no piece fits into, and calls that cannot be cut, answer out of memory. So does one that would change a buffer.
func TestNotInPieces(t *testing.T) {
	faking(t)
	b := mustOpen(t)
	d := backends.DeviceOf(b)
	kernel := func(op backends.Op) backends.Kernel {
		i := slices.IndexFunc(b.Kernels(), func(k backends.Kernel) bool { return k.Op == op })
		return b.Kernels()[i]
	}
	const n = 100_000
	at, err := d.Alloc(4 * n)
	if err != nil {
		t.Fatal(err)
	}
	x := slices.Repeat([]float32{1, -2, 3, 0.5}, n/4)
	if err := d.Upload(at, backends.Bytes(x)); err != nil {
		t.Fatal(err)
	}
	fake.memory(4*n + 100_000)
	o := quant.Options{Levels: quant.Ternary, Rule: quant.LeastSquares, Format: quant.Int8, Cols: n}
	q := new(quant.Tensor)
	q.Resize(1, o)
	for name, err := range map[string]error{
		"one scale in rounds": b.Quantize(kernel(backends.OpQuantize), &backends.Quantize{X: x, Rule: o.Rule, Dst: q}),
		"a buffer in place":   b.Update(kernel(backends.OpUpdate), &backends.Update{Method: backends.Momentum, Value: x, Grad: x, M: x, MAt: at, Delta: make([]float32, n)}),
		"a buffer":            b.Constrain(kernel(backends.OpConstrain), &backends.Constrain{X: x, Dst: make([]float32, n), DstAt: at, Radius: 1}),
		"a large factor":      b.MatMul(kernel(backends.OpMatMul), &backends.MatMul{A: x[:200], B: x, C: make([]float32, 2*1000), M: 2, N: 1000, K: 100, LDA: 100, LDB: 1000, LDC: 1000, Batch: 1}),
	} {
		if !errors.Is(err, backends.ErrMemory) {
			t.Errorf("%s: %v", name, err)
		}
	}
	got := make([]float32, n)
	if err := d.Download(backends.Bytes(got), at); err != nil || !slices.Equal(got, x) {
		t.Errorf("the buffer has changed (%v)", err)
	}
	fake.memory(4 * n)
	r := backends.Reduce{X: x}
	if err := b.Reduce(kernel(backends.OpNorm2), &r); !errors.Is(err, backends.ErrMemory) {
		t.Errorf("no memory: %v", err)
	}
	fake.memory(4*n + 100_000)
	r = backends.Reduce{X: x, XAt: at, Y: slices.Clone(x)} // one factor lies in the buffer, the other one comes in pieces
	if err := b.Reduce(kernel(backends.OpDot), &r); err != nil || r.Result != 14.25*n/4 {
		t.Errorf("%v, %v", r.Result, err)
	}
	if err := d.Free(at); err != nil {
		t.Error(err)
	}
	closed(t, "not in pieces", b)
}

// Any function of the driver fails anywhere in a call in pieces: the right answer, or a typed error, and then what is changed in place is as it was.
func TestPiecesFail(t *testing.T) {
	faking(t)
	var list []task
	for _, c := range cutTasks() {
		if slices.Contains([]string{"quantize by rows", "constrain in place", "step least-squares", "step absmax", "matmul added", "ternary 2000 by 3", "rmsnorm gradient in place", "update method=1", "clusters by offsets in place", "clusters by labels in place"}, c.name) {
			list = append(list, c)
		}
	}
	if testing.Short() {
		list = list[:3]
	}
	want := truth(t, list)
	for _, c := range list {
		count, failed, lost := 0, 0, 0
		for _, name := range []string{"cuMemAlloc_v2", "cuMemAllocHost_v2", "cuMemGetInfo_v2", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemsetD8Async", "cuStreamCreate", "cuStreamQuery", "cuLaunchKernel", "cuCtxSetCurrent"} {
			for _, nth := range []int{2, 9} {
				for _, code := range []int32{2, 999} {
					where := fmt.Sprintf("%s:%d:%d", name, nth, code)
					b := mustOpen(t)
					fake.memory(little)
					fake.fault(name, nth, code)
					err := try(t, where, c, b, want[c.name])
					fake.fault(name, 0, 0)
					if count++; err != nil {
						failed++
					}
					if errors.Is(err, backends.ErrLost) {
						lost++
					} else if again := try(t, where, c, b, want[c.name]); again != nil {
						t.Errorf("%s: %s: after %v also %v", where, c.name, err, again)
					}
					fake.memory(256 << 20)
					closed(t, where+": "+c.name, b)
				}
			}
		}
		t.Logf("%s: %d calls, %d failed, %d lost", c.name, count, failed, lost)
		if failed == 0 || lost == 0 {
			t.Errorf("%s: no fault did anything", c.name)
		}
	}
}

// Through the runtime the processor takes over in the middle of a call in pieces: what was begun leaves no trace.
func TestPiecesFallBack(t *testing.T) {
	faking(t)
	list := slices.DeleteFunc(cutTasks(), func(c task) bool {
		return !slices.Contains([]string{"constrain in place", "step least-squares", "softmax", "update method=1", "clusters by labels in place", "kmeans"}, c.name)
	})
	want := truth(t, list)
	for _, c := range list {
		for _, code := range []int32{2, 701, 719} {
			for nth := 2; nth <= 14; nth += 4 {
				rt := routed(t)
				fake.memory(little)
				before := fake.launches()
				fake.fault("cuLaunchKernel", nth, code)
				if err := try(t, fmt.Sprintf("launch %d: %d", nth, code), c, through{rt: rt}, want[c.name]); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
				if fake.launches() == before && nth > 4 {
					t.Errorf("%s: launch %d: nothing was begun", c.name, nth)
				}
				fake.fault("cuLaunchKernel", 0, 0)
				if err := rt.Close(); err != nil {
					t.Error(err)
				}
				fake.memory(256 << 20)
			}
		}
	}
}

// What is not finite is named as pure Go names it, wherever the pieces end; a step is then applied completely or not at all.
func TestPiecesNotFinite(t *testing.T) {
	faking(t)
	b := mustOpen(t)
	fake.memory(little)
	const n = 300_000
	spoiled := func(d *data, at ...int) []float32 {
		x := values(d, n)
		for _, i := range at {
			x[i] = float32(math.NaN())
		}
		return x
	}
	type call func(b backends.Backend, k backends.Kernel) ([]float32, error)
	step := func(o quant.Options, params, delta []int) call {
		return func(b backends.Backend, k backends.Kernel) ([]float32, error) {
			d := &data{r: random(4)}
			a := backends.Step{Params: spoiled(d, params...), Delta: spoiled(d, delta...), Radius: 4, Rule: o.Rule, Dst: outTensor(d, n/o.Cols, o)}
			return a.Params, b.Step(k, &a)
		}
	}
	rows := quant.Options{Levels: quant.Ternary, Rule: quant.AbsMean, Format: quant.Bits2, Cols: 1000, Group: 1000}
	whole := quant.Options{Levels: quant.Ternary, Rule: quant.AbsMax, Format: quant.Bits2, Cols: 1000}
	quantize := func(o quant.Options) call {
		return func(b backends.Backend, k backends.Kernel) ([]float32, error) {
			d := &data{r: random(4)}
			return nil, b.Quantize(k, &backends.Quantize{X: spoiled(d, 250_001, 280_000), Rule: o.Rule, Dst: outTensor(d, n/o.Cols, o)})
		}
	}
	for _, c := range []struct {
		name string
		op   backends.Op
		run  call
	}{
		{"step, delta", backends.OpStep, step(rows, nil, []int{222_222, 270_000})},
		{"step, parameters", backends.OpStep, step(rows, []int{150_000, 290_000}, nil)},
		{"step, one scale", backends.OpStep, step(whole, []int{150_001, 290_000}, nil)},
		{"quantize", backends.OpQuantize, quantize(rows)},
		{"quantize, one scale", backends.OpQuantize, quantize(whole)},
		{"constrain in place", backends.OpConstrain, func(b backends.Backend, k backends.Kernel) ([]float32, error) {
			x := spoiled(&data{r: random(4)}, 123_456)
			return x, b.Constrain(k, &backends.Constrain{X: x, Dst: x, Radius: 1})
		}},
		{"clusters by offsets in place", backends.OpClusters, func(b backends.Backend, k backends.Kernel) ([]float32, error) {
			x := spoiled(&data{r: random(4)}, 223_456, 290_000)
			return x, b.ConstrainClusters(k, &backends.Clusters{X: x, Dst: x, Offsets: []int64{0, 100_000, n}, Radii: []float64{1, 2}, Norms: make([]float64, 2)})
		}},
		{"clusters by labels in place", backends.OpClusters, func(b backends.Backend, k backends.Kernel) ([]float32, error) { // in a row of no cluster
			x := spoiled(&data{r: random(4)}, 223_456, 290_000)
			labels := make([]int32, n/100)
			for i := range labels {
				labels[i] = int32(i%3) - 1
			}
			labels[2234] = -1
			return x, b.ConstrainClusters(k, &backends.Clusters{X: x, Dst: x, Labels: labels, Radii: []float64{1, 2}, Norms: make([]float64, 2)})
		}},
		{"dot", backends.OpDot, func(b backends.Backend, k backends.Kernel) ([]float32, error) {
			d := &data{r: random(4)}
			return nil, b.Reduce(k, &backends.Reduce{X: spoiled(d, 200_000), Y: spoiled(d, 5)})
		}},
		{"dot, y", backends.OpDot, func(b backends.Backend, k backends.Kernel) ([]float32, error) {
			d := &data{r: random(4)}
			return nil, b.Reduce(k, &backends.Reduce{X: spoiled(d), Y: spoiled(d, 299_999)})
		}},
		{"activations", backends.OpActivations, func(b backends.Backend, k backends.Kernel) ([]float32, error) {
			a := new(quant.Activations)
			a.Resize(n/600, 600)
			return nil, b.Activations(k, &backends.Activations{X: spoiled(&data{r: random(4)}, 222_000, 222_001), Dst: a})
		}},
	} {
		kernel := func(b backends.Backend) backends.Kernel {
			return b.Kernels()[slices.IndexFunc(b.Kernels(), func(k backends.Kernel) bool { return k.Op == c.op })]
		}
		x, want := c.run(cpu.Backend{}, kernel(cpu.Backend{}))
		y, got := c.run(b, kernel(b))
		if !errors.Is(want, backends.ErrNonFinite) || got == nil || got.Error() != want.Error() {
			t.Errorf("%s: %v instead of %v", c.name, got, want)
		}
		same := slices.EqualFunc(x, y, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b })
		if !same {
			t.Errorf("%s: what is in place differs", c.name)
		}
	}
	closed(t, "not finite", b)
}

// A call in pieces that is asked to stop when it has begun stops with nothing changed in place, or ends well.
func TestPiecesCancelled(t *testing.T) {
	faking(t)
	const n = 300_000
	for _, radius := range []float64{1, 1e9} {
		b := mustOpen(t)
		fake.memory(little)
		x := values(&data{r: random(4)}, n)
		was, want := slices.Clone(x), slices.Clone(x)
		k := b.Kernels()[slices.IndexFunc(b.Kernels(), func(k backends.Kernel) bool { return k.Op == backends.OpConstrain })]
		if err := (cpu.Backend{}).Constrain(k, &backends.Constrain{X: want, Dst: want, Radius: radius}); err != nil {
			t.Fatal(err)
		}
		stop, done := new(atomic.Int32), make(chan error)
		before := fake.launches()
		go func() { done <- b.Constrain(k, &backends.Constrain{X: x, Dst: x, Radius: radius, Cancel: stop}) }()
		for err := error(nil); ; {
			select {
			case err = <-done:
			default:
				if fake.launches() > before+3 {
					stop.Store(1)
				}
				continue
			}
			if cancelled := errors.Is(err, context.Canceled); !cancelled && err != nil || cancelled && !slices.Equal(x, was) || err == nil && !slices.Equal(x, want) {
				t.Errorf("radius %v: %v, or wrong bits", radius, err)
			}
			break
		}
		closed(t, "cancelled", b)
	}
}
