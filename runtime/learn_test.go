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
	rt := open(t, append(options, WithoutNative(), WithRecheck(0))...)
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

// until calls until the condition holds, some ten thousand times at most.
func until(t *testing.T, rt *Runtime, x []float32, holds func() bool) {
	t.Helper()
	for range 50_000 {
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

// A call that had another inside it, from its beginning to its end, is not learned from.
func TestCallsWithOthersInsideAreNotLearned(t *testing.T) {
	var rt *Runtime
	var inside, deep atomic.Bool
	x := ramp(1000)
	rt = two(t, func() time.Duration {
		if inside.Load() && deep.CompareAndSwap(false, true) {
			if _, err := rt.Norm2(x); err != nil {
				t.Error(err)
			}
			deep.Store(false)
		}
		return 30 * time.Microsecond
	}, func() time.Duration { return 30 * time.Microsecond })
	inside.Store(true)
	for range 200 {
		if _, err := rt.Norm2(x); err != nil {
			t.Fatal(err)
		}
	}
	if l := rt.Learning(); l.Learned != 0 || l.Time != 0 {
		t.Errorf("%+v", l)
	}
	inside.Store(false)
	for range 200 {
		if _, err := rt.Norm2(x); err != nil {
			t.Fatal(err)
		}
	}
	if rt.Learning().Learned == 0 || rt.traffic.inFlight() != 0 {
		t.Error("nothing was learned alone")
	}
}

// picky has no norm2 of more than 500 values.
type picky struct{ sleepy }

func (p *picky) Reduce(k backends.Kernel, a *backends.Reduce) error {
	if len(a.X) > 500 {
		return backends.Fail(backends.ErrUnsupported, backends.OpNorm2, "", "too long")
	}
	return p.sleepy.Reduce(k, a)
}

// A kernel that answers that it does not have such calls is tried once, and its turn goes to another.
func TestRefusalsAreNotExplored(t *testing.T) {
	nap := func(d time.Duration) func() time.Duration { return func() time.Duration { return d } }
	p := &picky{sleepy{name: "picky", nap: nap(time.Microsecond)}}
	rt := open(t, WithoutNative(), WithRecheck(0))
	rt.arms[backends.OpNorm2] = nil
	rt.add(&sleepy{name: "first", nap: nap(60 * time.Microsecond)}, nil)
	rt.add(p, nil)
	rt.add(&sleepy{name: "third", nap: nap(20 * time.Microsecond)}, nil)
	arms := []dispatch.Arm{{Backend: "first", Kernel: "k"}, {Backend: "picky", Kernel: "k"}, {Backend: "third", Kernel: "k"}}
	profile := &dispatch.Profile{}
	for i, nanos := range []float64{60_000, 70_000, 90_000} {
		profile.Set(backends.OpNorm2, arms[i], dispatch.Model{Coef: dispatch.Coef{nanos}})
	}
	router, err := dispatch.NewRouter(map[backends.Op][]dispatch.Arm{backends.OpNorm2: arms}, profile, dispatch.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	rt.router.Store(router)
	rt.learning.learner = dispatch.NewLearner(router)
	x := ramp(1000)
	stats := &rt.arms[backends.OpNorm2][1].stats
	turns, calls, now := int64(0), int64(0), "first/k"
	count := func() { // its turns are the calls that another was chosen for; naps that take long, on a machine with other work, may make it the choice
		was, next := calls, chosen(rt, x)
		if calls = stats.calls.Load(); now != "picky/k" {
			turns += calls - was
		}
		now = next
	}
	until(t, rt, x, func() bool { count(); return now == "third/k" })
	for range 500 {
		if _, err := rt.Norm2(x); err != nil {
			t.Fatal(err)
		}
		count()
	}
	if turns > 3 {
		t.Errorf("%d turns", turns)
	}
	if m := rt.healthOf(t, "picky/k"); m.Calls == 0 || m.Fallbacks != m.Calls || m.Health != "healthy" {
		t.Errorf("%+v", m)
	}
	if l := rt.Learning(); l.Explored < 0 || rt.refusing(&dispatch.Shape{Op: backends.OpNorm2}) != 2 {
		t.Errorf("%+v, %b", l, rt.refusing(&dispatch.Shape{Op: backends.OpNorm2}))
	}
}

// A probe that fails has its price, which is kept for it no longer.
func TestFailedProbesArePaidFor(t *testing.T) {
	nap := func() time.Duration { return 60 * time.Microsecond }
	rt := two(t, nap, nap)
	x := ramp(1000)
	rt.arms[backends.OpNorm2][1].backend = &failing{sleepy: sleepy{name: "second", nap: nap}, fails: true}
	until(t, rt, x, func() bool { return len(rt.Metrics()) > 1 })
	if l := rt.Learning(); l.Explored <= 0 {
		t.Errorf("%+v", l)
	}
}

// What a process that was stopped seems to have taken neither earns time for exploring nor makes learning look dear.
func TestStoppedCallsCountLittle(t *testing.T) {
	nap := func() time.Duration { return 30 * time.Microsecond }
	rt := two(t, nap, nap)
	l, s := rt.learning, &rt.arms[backends.OpNorm2][0].stats
	l.usual.Store(-1 << 40) // so that it is not learned from
	rt.learn(dispatch.Observation{Shape: dispatch.Vector(backends.OpNorm2, 1000), Nanos: 1e10, Parts: 1, Weight: 64}, s, 30_000)
	if n := l.unseen.Load(); n != 64*stopped*30_000 || l.missed.Load() != 64 {
		t.Errorf("%d ns of %d calls", n, l.missed.Load())
	}
	if l.cost(time.Hour); l.price.Load() > 20_000 {
		t.Errorf("learning from a call is believed to take %d ns", l.price.Load())
	}
}
