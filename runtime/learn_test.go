// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// sleepy is a backend whose norm2 takes long, or not, as told.
type sleepy struct {
	backends.Unsupported
	name string
	nap  func() time.Duration
}

func (s *sleepy) Name() string { return s.name }
func (s *sleepy) Kernels() []backends.Kernel {
	return []backends.Kernel{{Op: backends.OpNorm2, Name: "k", Threads: 1}}
}
func (s *sleepy) Reduce(k backends.Kernel, a *backends.Reduce) error {
	for end := time.Now().Add(s.nap()); time.Now().Before(end); {
	}
	a.Result = math.Sqrt(float64(len(a.X)))
	return nil
}
func (s *sleepy) Close() error { return nil }

// two is a runtime with two sleepy backends, the first of which is predicted to be the faster by ten.
func two(t *testing.T, first, second func() time.Duration, options ...Option) *Runtime {
	t.Helper()
	rt := open(t, append(options, WithoutNative())...)
	rt.arms[backends.OpNorm2] = nil
	rt.add(&sleepy{name: "first", nap: first}, nil)
	rt.add(&sleepy{name: "second", nap: second}, nil)
	arms := map[backends.Op][]dispatch.Arm{backends.OpNorm2: {{Backend: "first", Kernel: "k"}, {Backend: "second", Kernel: "k"}}}
	p := &dispatch.Profile{}
	p.Set(backends.OpNorm2, arms[backends.OpNorm2][0], dispatch.Model{Coef: dispatch.Coef{30_000}})
	p.Set(backends.OpNorm2, arms[backends.OpNorm2][1], dispatch.Model{Coef: dispatch.Coef{300_000}})
	router, err := dispatch.NewRouter(arms, p, dispatch.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	rt.router.Store(router)
	if rt.learning != nil {
		rt.learning.learner = dispatch.NewLearner(router)
	}
	return rt
}

// until calls until the condition holds, some thousand times at most.
func until(t *testing.T, rt *Runtime, x []float32, holds func() bool) {
	t.Helper()
	for range 5000 {
		if _, err := rt.Norm2(x); err != nil {
			t.Fatal(err)
		}
		if holds() {
			return
		}
	}
	t.Errorf("it does not come: %v, %+v", rt.Explain(dispatch.Vector(backends.OpNorm2, len(x))), rt.Learning())
}

func chosen(rt *Runtime, x []float32) string {
	return rt.Explain(dispatch.Vector(backends.OpNorm2, len(x))).Chosen
}

// A wrong prediction is found out: the second backend is tried although it was predicted to be ten times as slow. Then it becomes slow, and the runtime goes back.
func TestRuntimeLearns(t *testing.T) {
	var mutex sync.Mutex
	slow := 20 * time.Microsecond
	rt := two(t, func() time.Duration { return 60 * time.Microsecond }, func() time.Duration { mutex.Lock(); defer mutex.Unlock(); return slow })
	x := ramp(1000)
	until(t, rt, x, func() bool { return chosen(rt, x) == "second/k" })
	mutex.Lock()
	slow = 400 * time.Microsecond
	mutex.Unlock()
	until(t, rt, x, func() bool { return chosen(rt, x) == "first/k" })
	if l := rt.Learning(); !l.On || l.Learned == 0 || l.Time <= 0 {
		t.Errorf("%+v", l)
	}
}

func TestWithoutLearning(t *testing.T) {
	nap := func() time.Duration { return 40 * time.Microsecond }
	rt := two(t, nap, func() time.Duration { return 0 }, WithoutLearning())
	x := ramp(1000)
	for range 500 {
		if _, err := rt.Norm2(x); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range rt.Metrics() {
		if m.Kernel == "second/k" {
			t.Errorf("it was called: %+v", m)
		}
	}
	if rt.Learning().On {
		t.Error("it learns")
	}
	t.Setenv(LearnVariable, "off")
	if open(t, WithoutNative()).Learning().On {
		t.Error("it learns although the environment says off")
	}
	t.Setenv(LearnVariable, "on")
	if !open(t, WithoutNative()).Learning().On {
		t.Error("it does not learn although the environment says on")
	}
	if open(t, WithoutNative(), WithForce("cpu")).Learning().On {
		t.Error("it learns although a backend is forced")
	}
	t.Setenv(LearnVariable, "perhaps")
	if _, err := Open(WithoutNative()); !errors.Is(err, ErrArgument) || !strings.Contains(err.Error(), "SETUN_LEARN=\"perhaps\"") {
		t.Errorf("%v", err)
	}
}

// Calls that others run beside are not learned from: what they take says more of the others.
func TestNothingIsLearnedBesideOthers(t *testing.T) {
	inside, leave := make(chan bool), make(chan bool)
	var first atomic.Bool
	rt := two(t, func() time.Duration {
		if first.CompareAndSwap(false, true) {
			inside <- true
			<-leave
		}
		return 30 * time.Microsecond
	}, func() time.Duration { return 30 * time.Microsecond })
	x := ramp(1000)
	var all sync.WaitGroup
	call := func(times int) {
		for range times {
			if _, err := rt.Norm2(x); err != nil {
				t.Error(err)
			}
		}
	}
	all.Go(func() { call(1) })
	<-inside
	for range 8 { // for the race detector too
		all.Go(func() { call(50) })
	}
	call(50)
	if n := rt.Learning().Learned; n != 0 {
		t.Errorf("%d calls were learned from", n)
	}
	leave <- true
	all.Wait()
	call(200)
	if rt.Learning().Learned == 0 {
		t.Error("nothing was learned alone")
	}
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
}
