// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cuda"
	"github.com/setun-compute/setun/internal/gputest"
	"github.com/setun-compute/setun/quant"
)

// arrays are what everyOp works on.
func arrays() (all [8][]float32) {
	for i := range all {
		all[i] = make([]float32, 1200)
		for j := range all[i] {
			all[i][j] = float32((j*7+i*13)%29-14) / 8
		}
	}
	return all
}

// everyOp calls each op on slices, whole ones and parts, and returns what they say beside what they write.
func everyOp(rt *Runtime, a [8][]float32) (said []any, err error) {
	x, y, z, m, v, delta, out, scale := a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
	tell := func(v any, e error) {
		said, err = append(said, v), errors.Join(err, e)
	}
	for i := range v {
		v[i] *= v[i]
	}
	tell(nil, rt.Changed(v))
	tell(rt.Norm2(x[100:900]))
	tell(rt.Dot(x, y))
	_, e := rt.MatMul(z[90:], x[30:], y, 30, 30, 30, MatMulOptions{})
	tell(nil, e)
	_, e = rt.MatMul(z, x, y, 30, 20, 10, MatMulOptions{Accumulate: true, LDC: 40})
	tell(nil, e)
	tell(nil, rt.RMSNorm(RMSNorm{X: z, Cols: 40, Delta: x, Sum: x, Gain: y[:40], Out: out, Scale: scale[:30], Epsilon: 1e-5}))
	tell(nil, rt.RMSNorm(RMSNorm{X: x, Cols: 40, Gain: y[:40], DY: out, Out: z, Add: true, Scale: scale[:30], DGain: y[40:80], Parts: make([]float32, 40), Epsilon: 1e-5}))
	stats := make([]float64, 60)
	tell(stats, rt.Softmax(Softmax{X: z, Cols: 40, Scale: 1, Factor: 1, Stats: stats}))
	tell(nil, rt.Softmax(Softmax{X: out, P: z, Cols: 40, Period: 10, Scale: 0.5}))
	tell(nil, rt.Activate(Activate{Function: SwiGLU, X: x, Cols: 20, Out: y[600:]}))
	tell(nil, rt.Activate(Activate{Function: ReLU2, X: y, Cols: 30, DY: z, Out: out}))
	tell(nil, rt.Update(Update{Method: AdamW, Value: x, Grad: out, M: m, V: v, Delta: delta, Rate: 0.1, Decay: 0.1, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Unbias1: 10, Unbias2: 100}))
	_, norm, e := rt.Constrain(delta, delta, 1)
	tell(norm, e)
	c := &Clusters{Offsets: []int64{0, 100, 400, 1200}, Radii: []float64{0.1, math.Inf(1), 0.5}}
	_, e = rt.ConstrainClusters(out, delta, c)
	tell(c.Norms, e)
	q, norm, e := rt.Step(nil, x, out, 0.4, quant.Options{Cols: 40})
	tell(*q, e)
	tell(norm, nil)
	q, e = rt.Quantize(q, y[200:], quant.Options{Cols: 40, Rule: quant.LeastSquares})
	tell(*q, e)
	codes, e := rt.QuantizeActivations(nil, x, 40)
	tell(*codes, e)
	_, e = rt.TernaryMatMul(z[:30*q.Rows], codes, q)
	tell(nil, e)
	k, e := rt.KMeans(context.Background(), nil, x, 40, KMeansOptions{K: 3})
	tell(*k, e)
	s, e := rt.SuggestK(context.Background(), y, 40, SuggestOptions{MaxK: 4})
	tell(s.String(), e)
	return said, err
}

// Calls on mapped slices have the results of those on others, and what the program reads at home is that.
func TestMapped(t *testing.T) {
	want := arrays()
	saidWant, err := everyOp(open(t, WithoutNative()), want)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, rt *Runtime, which func(int) bool) {
		t.Helper()
		got := arrays()
		var mapped []*Buffer
		for i, x := range got {
			if which(i) {
				b, err := rt.Map(x)
				if err != nil {
					t.Fatal(err)
				}
				mapped = append(mapped, b)
			}
		}
		said, err := everyOp(rt, got)
		if err != nil || fmt.Sprintf("%+v", said) != fmt.Sprintf("%+v", saidWant) {
			t.Errorf("%s: calls say something else: %v\n%.200s\n%.200s", name, err, fmt.Sprintf("%+v", said), fmt.Sprintf("%+v", saidWant))
		}
		if err := rt.Home(got[:3]...); err != nil {
			t.Error(err)
		}
		for i := range got {
			if i == 3 { // Close brings the others home
				for _, b := range mapped {
					if err := errors.Join(b.Close(), b.Close()); err != nil {
						t.Error(err)
					}
				}
				if rt.mapped.Load() != nil {
					t.Errorf("%s: buffers are still mapped", name)
				}
			}
			if !slices.Equal(got[i], want[i]) {
				t.Errorf("%s: array %d differs", name, i)
			}
		}
	}
	all := func(int) bool { return true }
	check("pure Go", open(t, WithoutNative()), all)
	check("native", open(t, libraries(t), WithoutLearning(), WithoutCUDA()), all)
	for _, factor := range []float64{0.1, 1.0005, 100} {
		for _, which := range []func(int) bool{all, func(i int) bool { return i%2 == 0 }, func(i int) bool { return i%3 == 0 }} {
			rt, g := onGPU(t, factor)
			g.Stale = true
			check(fmt.Sprintf("factor %v", factor), rt, which)
			if (g.Calls > 0) != (factor > 1) || g.Buffers() != 0 {
				t.Errorf("factor %v: %d calls on the device, %d buffers left", factor, g.Calls, g.Buffers())
			}
		}
	}
	rt := open(t, libraries(t), WithoutLearning(), WithCUDA(0))
	if len(rt.devices) == 0 {
		gputest.NoCUDA(t, last(rt).Reason)
	}
	check("CUDA", open(t, libraries(t), WithoutLearning(), WithCUDA(0), WithForce(cuda.Name)), all)
}

// What is on the device stays there from call to call, and a part that is overwritten does not bring the rest along twice.
func TestMappedStays(t *testing.T) {
	rt, g := onGPU(t, 100)
	x, y, z := ramp(900), ramp(900), ramp(900)
	for _, v := range [][]float32{x, y, z} {
		if _, err := rt.Map(v); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		if _, err := rt.MatMul(z, x, y, 30, 30, 30, MatMulOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := rt.Constrain(z[:450], x[:450], 3); err != nil {
			t.Fatal(err)
		}
	}
	if g.Up != 1800 || g.Down != 0 || g.Calls != 20 {
		t.Errorf("%d values went up and %d down in %d calls, 1800 up would do", g.Up, g.Down, g.Calls)
	}
	if err := rt.Changed(z[:10]); !errors.Is(err, ErrArgument) {
		t.Errorf("a part was written whose rest is on the device: %v", err)
	}
	if err := rt.Home(z[:10], ramp(3)); err != nil || g.Down != 900 {
		t.Errorf("%d values went down: %v", g.Down, err)
	}
	z[3] = 7
	if err := rt.Changed(z[:10]); err != nil {
		t.Error(err)
	}
	if n, err := rt.Norm2(z[3:4]); n != 7 || err != nil || g.Up != 2700 {
		t.Errorf("%v, %v; %d values went up", n, err, g.Up)
	}
}

func TestMapRefuses(t *testing.T) {
	rt := open(t, WithoutNative())
	x := ramp(100)
	b, err := rt.Map(x[20:80])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Map(nil); !errors.Is(err, ErrArgument) {
		t.Errorf("nothing: %v", err)
	}
	for _, v := range [][]float32{x, x[:21], x[79:], x[30:40], x[20:80]} {
		if _, err := rt.Map(v); !errors.Is(err, ErrAlias) {
			t.Errorf("mapped twice: %v", err)
		}
	}
	for _, v := range [][]float32{x, x[:21], x[79:]} {
		_, e1 := rt.Norm2(v)
		_, e2 := rt.KMeans(t.Context(), nil, v, 1, KMeansOptions{K: 1})
		for _, err := range []error{e1, e2, rt.Home(v), rt.Changed(v)} {
			if !errors.Is(err, ErrArgument) {
				t.Errorf("a slice across the edge: %v", err)
			}
		}
	}
	if _, err := rt.Norm2(x[:20]); err != nil {
		t.Error(err)
	}
	if _, err := rt.Map(x[80:]); err != nil { // beside it
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := rt.Norm2(x[:80]); err != nil {
		t.Error(err)
	}
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
	if _, err := rt.Map(x[:20]); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A device that is lost takes what it alone has, and says so.
func TestMappedOfALostDevice(t *testing.T) {
	rt, g := onGPU(t, 100)
	x := ramp(900)
	b, err := rt.Map(x)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := rt.Constrain(x, x, 3); err != nil {
		t.Fatal(err)
	}
	g.Fails = backends.ErrLost
	if _, err := rt.Norm2(x); !errors.Is(err, ErrLost) {
		t.Errorf("a call: %v", err)
	}
	if err := rt.Home(x); !errors.Is(err, ErrLost) {
		t.Errorf("home: %v", err)
	}
	if err := b.Close(); !errors.Is(err, ErrLost) {
		t.Errorf("close: %v", err)
	}
	if n, err := rt.Norm2(x); err != nil || n == 0 {
		t.Errorf("what the program has is its own again: %v, %v", n, err)
	}
}

// Calls allocate nothing where slices are mapped, nor beside mapped ones.
func TestMappedAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("pools forget under the race detector")
	}
	rt, _ := onGPU(t, 100)
	rt.trace, rt.observer = nil, nil
	x, y := ramp(900), ramp(900)
	if _, err := rt.Map(x); err != nil {
		t.Fatal(err)
	}
	backend := rt.arms[backends.OpDot][1].backend.(*gputest.GPU)
	call := func() {
		if _, err := rt.Dot(x, y); err != nil {
			t.Fatal(err)
		}
		if err := rt.Home(x); err != nil {
			t.Fatal(err)
		}
	}
	own := testing.AllocsPerRun(100, func() { _ = backend.Reduce(backends.Kernel{Op: backends.OpDot}, &backends.Reduce{X: y, Y: y}) })
	if n := testing.AllocsPerRun(100, call); n > own {
		t.Errorf("%v allocations a call, %v of them the device's", n, own)
	}
}
