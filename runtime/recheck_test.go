// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/quant"
)

// liar is pure Go, until it is told to change what comes out by as little as there is.
type liar struct {
	cpu.Backend
	lies  bool
	calls int
}

func (l *liar) Name() string { return "liar" }

func (l *liar) Kernels() []backends.Kernel {
	var list []backends.Kernel
	for _, op := range backends.Ops() {
		list = append(list, backends.Kernel{Op: op, Name: "k", Threads: 1})
	}
	return list
}

func (l *liar) change(err error, x []float32) error {
	l.calls++
	if l.lies && err == nil {
		for i, v := range x {
			if x[i] = v * (1 + 0x1p-23); v == 0 {
				x[i] = 0x1p-149
			}
		}
	}
	return err
}

func (l *liar) Reduce(k backends.Kernel, a *backends.Reduce) error {
	err := l.change(l.Backend.Reduce(k, a), nil)
	if l.lies {
		a.Result *= 1 + 0x1p-52
	}
	return err
}

func (l *liar) Constrain(k backends.Kernel, a *backends.Constrain) error {
	return l.change(l.Backend.Constrain(k, a), a.Dst)
}

func (l *liar) ConstrainClusters(k backends.Kernel, a *backends.Clusters) error {
	return l.change(l.Backend.ConstrainClusters(k, a), a.Dst)
}

func (l *liar) Quantize(k backends.Kernel, a *backends.Quantize) error {
	err := l.change(l.Backend.Quantize(k, a), nil)
	if l.lies {
		for i := range a.Dst.Codes {
			a.Dst.Codes[i] ^= 1
		}
		for i := range a.Dst.Packed {
			a.Dst.Packed[i] ^= 1
		}
	}
	return err
}

func (l *liar) Step(k backends.Kernel, a *backends.Step) error {
	return l.change(l.Backend.Step(k, a), a.Params)
}

func (l *liar) MatMul(k backends.Kernel, a *backends.MatMul) error {
	return l.change(l.Backend.MatMul(k, a), a.C)
}

func (l *liar) Activations(k backends.Kernel, a *backends.Activations) error {
	return l.change(l.Backend.Activations(k, a), a.Dst.Scales)
}

func (l *liar) Ternary(k backends.Kernel, a *backends.Ternary) error {
	return l.change(l.Backend.Ternary(k, a), a.Out)
}

func (l *liar) Recode(k backends.Kernel, a *backends.Recode) error {
	err := l.change(l.Backend.Recode(k, a), nil)
	if l.lies {
		a.To.Packed[0] ^= 1
	}
	return err
}

func (l *liar) RMSNorm(k backends.Kernel, a *backends.RMSNorm) error {
	return l.change(l.Backend.RMSNorm(k, a), a.Out)
}

func (l *liar) Softmax(k backends.Kernel, a *backends.Softmax) error {
	return l.change(l.Backend.Softmax(k, a), a.X)
}

func (l *liar) Activate(k backends.Kernel, a *backends.Activate) error {
	return l.change(l.Backend.Activate(k, a), a.Out)
}

func (l *liar) Update(k backends.Kernel, a *backends.Update) error {
	return l.change(l.Backend.Update(k, a), a.Delta)
}

func (l *liar) KMeans(ctx context.Context, k backends.Kernel, a *backends.KMeans) error {
	return l.change(l.Backend.KMeans(ctx, k, a), a.Centroids)
}

// task is a call of an op.
type task struct {
	name    string
	inPlace bool // it writes over what it reads
	do      func(rt *Runtime) error
}

// filler is some values, none of them 0.
func filler(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = (float32((i*37+11)%101) - 50.5) / 16
	}
	return x
}

func rows() []float32 { return filler(24 * 40) }

func one(_ any, err error) error { return err }

// tasks are one of each op, and of its ways.
var tasks = []task{
	{"dot", false, func(rt *Runtime) error { return one(rt.Dot(rows(), rows())) }},
	{"norm2", false, func(rt *Runtime) error { return one(rt.Norm2(rows())) }},
	{"constrain", false, func(rt *Runtime) error { _, _, err := rt.Constrain(nil, rows(), 1); return err }},
	{"constrain in place", true, func(rt *Runtime) error { x := rows(); _, _, err := rt.Constrain(x, x, 1); return err }},
	{"clusters", true, func(rt *Runtime) error {
		x := rows()
		return one(rt.ConstrainClusters(x, x, &Clusters{Labels: make([]int32, 24), Radii: []float64{0.5}}))
	}},
	{"quantize", false, func(rt *Runtime) error {
		return one(rt.Quantize(nil, rows(), quant.Options{Cols: 40, Rule: quant.Stochastic, Seed: 3}))
	}},
	{"quantize, packed groups", false, func(rt *Runtime) error {
		return one(rt.Quantize(nil, rows(), quant.Options{Cols: 40, Group: 7, Format: quant.Bits2}))
	}},
	{"quantize, long, by rows", false, func(rt *Runtime) error {
		return one(rt.Quantize(nil, filler(1<<21), quant.Options{Cols: 1 << 10, Group: 1 << 10}))
	}},
	{"step", true, func(rt *Runtime) error {
		_, _, err := rt.Step(nil, rows(), rows(), 0.1, quant.Options{Cols: 40, Group: 8, Rule: quant.Stochastic, Seed: 3})
		return err
	}},
	{"matmul", false, func(rt *Runtime) error {
		return one(rt.MatMul(nil, rows(), rows(), 24, 24, 40, MatMulOptions{TransB: true}))
	}},
	{"matmul, more", true, func(rt *Runtime) error {
		return one(rt.MatMul(rows(), rows(), rows(), 8, 8, 12, MatMulOptions{TransA: true, Accumulate: true, Batch: 5, LDA: 9, LDC: 10}))
	}},
	{"activations", false, func(rt *Runtime) error { return one(rt.QuantizeActivations(nil, rows(), 40)) }},
	{"ternary", false, func(rt *Runtime) error {
		pure, err := Open(WithoutNative(), WithProfile("none"))
		if err != nil {
			return err
		}
		defer pure.Close()
		w, _ := pure.Quantize(nil, rows(), quant.Options{Cols: 40})
		x, _ := pure.QuantizeActivations(nil, rows(), 40)
		return one(rt.TernaryMatMul(nil, x, w))
	}},
	{"recode", false, func(rt *Runtime) error {
		w := &quant.Tensor{Rows: 2, Cols: 5, Levels: quant.Ternary, Codes: []int8{1, 0, -1, 0, 1, 1, 1, 0, 0, -1}, Scales: []float32{2}, Format: quant.Int8}
		return one(rt.Convert(nil, w, quant.Base3))
	}},
	{"rmsnorm", true, func(rt *Runtime) error {
		x := rows()
		return rt.RMSNorm(RMSNorm{X: x, Cols: 40, Delta: rows(), Sum: x, Gain: filler(40), Out: rows(), Scale: make([]float32, 24)})
	}},
	{"rmsnorm's gradient", true, func(rt *Runtime) error {
		return rt.RMSNorm(RMSNorm{X: rows(), Cols: 40, Gain: filler(40), Scale: filler(24), DY: rows(), Out: rows(), Add: true, DGain: filler(40), Parts: filler(40)})
	}},
	{"softmax", true, func(rt *Runtime) error {
		return rt.Softmax(Softmax{X: rows(), Cols: 40, Period: 12, Scale: 1, Factor: 1, Stats: make([]float64, 48)})
	}},
	{"softmax's gradient", true, func(rt *Runtime) error { return rt.Softmax(Softmax{X: rows(), P: rows(), Cols: 40, Scale: 1}) }},
	{"activate", false, func(rt *Runtime) error {
		return rt.Activate(Activate{Function: SwiGLU, X: rows(), Cols: 20, Out: filler(480)})
	}},
	{"activate's gradient", true, func(rt *Runtime) error {
		x := rows()
		return rt.Activate(Activate{Function: ReLU2, X: x, Cols: 40, DY: rows(), Out: x})
	}},
	{"update", true, func(rt *Runtime) error {
		return rt.Update(Update{Method: Momentum, Value: filler(9000), Grad: filler(9000), M: filler(9000), Delta: filler(9000), Rate: 1, Beta1: 0.9})
	}},
	{"kmeans", false, func(rt *Runtime) error {
		return one(rt.KMeans(context.Background(), nil, rows(), 4, KMeansOptions{K: 3}))
	}},
}

// lying is a runtime whose every call is checked, and whose kernels compute wrongly if they are told to.
func lying(t testing.TB, options ...Option) (*Runtime, *liar) {
	t.Helper()
	l := new(liar)
	rt := open(t, append([]Option{WithoutNative(), WithoutLearning(), WithBackend(l), WithRecheck(1)}, options...)...)
	prefer(t, rt, 100)
	return rt, l
}

// TestF14Recheck: a right kernel passes for every op; one that is wrong by the least bit is found and does not run again, and pure Go answers, but where the call had overwritten what it read.
func TestF14Recheck(t *testing.T) {
	honest, l := lying(t)
	seen := map[string]bool{}
	for _, c := range tasks {
		before := l.calls
		if err := c.do(honest); err != nil || l.calls == before {
			t.Errorf("%s: %d calls: %v", c.name, l.calls-before, err)
		}
	}
	for _, m := range honest.Metrics() {
		if seen[m.Op] = true; m.Kernel == "liar/k" && (m.Rechecked != m.Calls || m.Health != "healthy") {
			t.Errorf("%+v", m)
		}
	}
	if len(seen) != len(backends.Ops()) {
		t.Errorf("%d ops were called", len(seen))
	}
	for _, c := range tasks {
		rt, l := lying(t)
		l.lies = true
		err := c.do(rt)
		if c.inPlace != errors.Is(err, ErrWrong) || !c.inPlace && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && !strings.Contains(fmt.Sprint(err), "liar/k") {
			t.Errorf("%s: which kernel it was is not said: %v", c.name, err)
		}
		found := false
		for _, m := range rt.Metrics() {
			found = found || m.Kernel == "liar/k" && m.Health == "quarantined"
		}
		calls := l.calls
		if err := c.do(rt); err != nil || !found || l.calls != calls {
			t.Errorf("%s: the second call: found %v, %d more of the kernel's: %v", c.name, found, l.calls-calls, err)
		}
	}
}

// TestRecheckIsRare: one call in so many, none when it is off, and never pure Go's own.
func TestRecheckIsRare(t *testing.T) {
	for every, want := range map[int]int64{100: 3, 0: 0} {
		rt, _ := lying(t, WithRecheck(every))
		for range 300 {
			if _, err := rt.Norm2([]float32{3, 4}); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range rt.Metrics() {
			if m.Rechecked != want {
				t.Errorf("every %d: %+v", every, m)
			}
		}
	}
	rt := open(t, WithoutNative(), WithoutLearning(), WithRecheck(1))
	if _, err := rt.Norm2([]float32{3, 4}); err != nil || rt.Metrics()[0].Rechecked != 0 {
		t.Errorf("pure Go was held against itself: %v", err)
	}
}

func TestRecheckVariable(t *testing.T) {
	for text, want := range map[string]int64{"": defaultRecheck, "off": 0, "7": 7} {
		t.Setenv(RecheckVariable, text)
		if rt := open(t, WithoutNative()); rt.recheck != want {
			t.Errorf("%q: %d", text, rt.recheck)
		}
	}
	for _, text := range []string{"0", "-1", "often"} {
		t.Setenv(RecheckVariable, text)
		if _, err := Open(WithoutNative()); !errors.Is(err, ErrArgument) {
			t.Errorf("%q: %v", text, err)
		}
	}
	t.Setenv(RecheckVariable, "")
	if _, err := Open(WithRecheck(-1)); !errors.Is(err, ErrArgument) {
		t.Errorf("%v", err)
	}
}
