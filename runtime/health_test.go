// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
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

// ailing is a runtime whose first choice is a backend that fails as told, and what it logs.
func ailing(t *testing.T) (*Runtime, *failing, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	f := &failing{sleepy: sleepy{name: "frail", nap: func() time.Duration { return 0 }}}
	rt := open(t, WithoutNative(), WithProfile(""), WithoutLearning(), WithBackend(f), WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	p := &dispatch.Profile{}
	p.Set(backends.OpNorm2, rt.Arms(backends.OpNorm2)[0], dispatch.Model{Coef: dispatch.Coef{30_000}})
	p.Set(backends.OpNorm2, rt.Arms(backends.OpNorm2)[1], dispatch.Model{Coef: dispatch.Coef{3_000}})
	r, err := dispatch.NewRouter(map[backends.Op][]dispatch.Arm{backends.OpNorm2: rt.Arms(backends.OpNorm2)}, p, dispatch.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	rt.router.Store(r)
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
