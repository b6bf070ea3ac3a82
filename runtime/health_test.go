// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// failing is a backend whose norm2 fails while told so.
type failing struct {
	sleepy
	fails bool
}

func (f *failing) Reduce(k backends.Kernel, a *backends.Reduce) error {
	if f.fails {
		return backends.Fail(backends.ErrBackend, backends.OpNorm2, "", "as told")
	}
	return f.sleepy.Reduce(k, a)
}

// choose has an op's predictions choose an arm.
func choose(t testing.TB, rt *Runtime, op backends.Op, arm int) {
	t.Helper()
	p := &dispatch.Profile{}
	for i, a := range rt.Arms(op) {
		nanoseconds := 30_000.0
		if i == arm {
			nanoseconds = 300
		}
		p.Set(op, a, dispatch.Model{Coef: dispatch.Coef{nanoseconds}})
	}
	r, err := dispatch.NewRouter(map[backends.Op][]dispatch.Arm{op: rt.Arms(op)}, p, dispatch.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	rt.router.Store(r)
}

// ailing is a runtime whose first choice is a backend that fails as told, and what it logs.
func ailing(t testing.TB) (*Runtime, *failing, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	f := &failing{sleepy: sleepy{name: "frail", nap: func() time.Duration { return 0 }}}
	rt := open(t, WithoutNative(), WithProfile(""), WithoutLearning(), WithRecheck(0), WithBackend(f), WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	choose(t, rt, backends.OpNorm2, 1)
	return rt, f, log
}

func (rt *Runtime) healthOf(t *testing.T, kernel string) Metric {
	t.Helper()
	for _, m := range rt.Metrics() {
		if m.Kernel == kernel {
			return m
		}
	}
	t.Fatalf("%s was never called", kernel)
	return Metric{}
}

// A kernel that fails rests, the next best answers, and when it has rested its first call decides: it is well, or rests for longer, and is quarantined in the end.
func TestHealthOfARuntime(t *testing.T) {
	rt, f, log := ailing(t)
	x := ramp(100)
	call := func() {
		t.Helper()
		if _, err := rt.Norm2(x); err != nil {
			t.Fatal(err)
		}
	}
	over := func() { rt.arms[backends.OpNorm2][1].condition.retry.Store(0) } // the rest, without waiting
	call()
	if m := rt.healthOf(t, "frail/k"); m.Health != "healthy" || m.Calls != 1 {
		t.Errorf("%+v", m)
	}
	f.fails = true
	call()
	call() // it rests
	if m := rt.healthOf(t, "frail/k"); m.Health != "suspect" || m.Calls != 2 || m.Fallbacks != 1 {
		t.Errorf("%+v", m)
	}
	f.fails = false
	over()
	call()
	if m := rt.healthOf(t, "frail/k"); m.Health != "healthy" || m.Calls != 3 {
		t.Errorf("%+v", m)
	}
	f.fails = true
	for range dispatch.Strikes {
		over()
		call()
	}
	if m := rt.healthOf(t, "frail/k"); m.Health != "quarantined" {
		t.Errorf("%+v", m)
	}
	f.fails = false
	call()
	if m := rt.healthOf(t, "frail/k"); m.Calls != 3+dispatch.Strikes {
		t.Errorf("it ran in quarantine: %+v", m)
	}
	rt.happened(backends.OpNorm2, 0, dispatch.Failed, nil) // now all others rest, and are rather tried than that one
	call()
	if m := rt.healthOf(t, "frail/k"); m.Calls != 3+dispatch.Strikes {
		t.Errorf("it ran in quarantine, because all others rest: %+v", m)
	}
	for _, want := range []string{"kernel failed and rests\" op=norm2 kernel=frail/k rest=1s cause=", "kernel is well again", "rest=2s", "level=ERROR msg=\"setun: kernel quarantined\" op=norm2 kernel=frail/k failures=10"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
}

func TestVarIsJSON(t *testing.T) {
	rt := open(t, WithoutNative())
	if _, err := rt.Norm2(ramp(100)); err != nil {
		t.Fatal(err)
	}
	var s Snapshot
	if err := json.Unmarshal([]byte(rt.Var().String()), &s); err != nil || len(s.Kernels) != 1 || s.Kernels[0].Calls != 1 || s.Kernels[0].Health != "healthy" || !s.Learning.On {
		t.Errorf("%s (%v)", rt.Var(), err)
	}
}

// What is refused, and what has become slower, is logged.
func TestLogOfDriftAndRefusal(t *testing.T) {
	log := new(bytes.Buffer)
	logger := slog.New(slog.NewTextHandler(log, nil))
	rt := open(t, WithoutNative(), WithProfile("/dev/null"), WithLogger(logger))
	rt.tell([]dispatch.Drift{{Op: backends.OpNorm2, Arm: 0, Factor: 5}})
	for _, want := range []string{"profile refused\" path=/dev/null reason=", "longer or shorter than it did\" op=norm2 kernel=cpu/go times=5"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
}

// Calls that were inside when their kernel failed are one failure, however many they were: it rests, and is not quarantined.
func TestOneOutageIsOneFailure(t *testing.T) {
	rt, _, _ := ailing(t)
	for range 2 * dispatch.Strikes {
		rt.happened(backends.OpNorm2, 1, dispatch.Failed, nil)
	}
	c := &rt.arms[backends.OpNorm2][1].condition
	if c.state.Health != dispatch.Suspect || c.state.Strikes != 1 {
		t.Errorf("%+v", c.state)
	}
	// It rests by a clock that nobody sets: since the runtime was opened.
	if at := time.Duration(c.retry.Load()); at < time.Second || at > time.Minute {
		t.Errorf("it may be tried again at %v", at)
	}
	if rt.resting(backends.OpNorm2) != 2 {
		t.Error("it does not rest")
	}
	c.retry.Store(rt.clock())
	if rt.happened(backends.OpNorm2, 1, dispatch.Failed, nil); c.state.Strikes != 2 {
		t.Errorf("it has rested and failed again: %+v", c.state)
	}
}

// asker is a handler that asks the runtime what it has learned.
type asker struct {
	slog.Handler
	rt    *Runtime
	asked atomic.Int64
}

func (a *asker) Handle(context.Context, slog.Record) error {
	if a.rt != nil {
		a.rt.Snapshot()
		a.rt.Learning()
		a.asked.Add(1)
	}
	return nil
}

// What is logged is logged outside of locks.
func TestLoggerMayAsk(t *testing.T) {
	h := &asker{Handler: slog.NewTextHandler(io.Discard, nil)}
	nap := func() time.Duration { return 0 }
	rt := two(t, nap, nap, WithLogger(slog.New(h)))
	h.rt = rt
	done := make(chan bool)
	go func() {
		defer close(done)
		for i := 0; i < 5000 && h.asked.Load() == 0; i++ { // made-up times, so that nothing depends on the machine: as predicted, then fifteen times as long
			took := 20_000.0
			if i > 500 {
				took = 300_000
			}
			s := dispatch.Vector(backends.OpNorm2, 500<<(i%8)) // of many sizes, as drift of all is what is told
			rt.learn(dispatch.Observation{Shape: s, Nanos: took, Parts: 1, Weight: 1000}, &rt.arms[backends.OpNorm2][0].stats, 30_000)
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it waits for ever") // and so would Close
	}
	if h.asked.Load() == 0 {
		t.Error("nothing was logged")
	}
}

// BenchmarkFallback: a call whose kernel fails and which the next best answers, and one more that finds the first kernel well; then two calls without a failure.
func BenchmarkFallback(b *testing.B) {
	x := ramp(100)
	for _, fails := range []bool{true, false} {
		b.Run(fmt.Sprintf("fails=%v", fails), func(b *testing.B) {
			rt, f, _ := ailing(b)
			rt.log = nil
			for b.Loop() {
				for _, f.fails = range []bool{fails, false} {
					rt.arms[backends.OpNorm2][1].condition.retry.Store(0)
					if _, err := rt.Norm2(x); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
