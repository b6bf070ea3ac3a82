// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	simdc "github.com/setun-compute/setun/backends/simd_c"
	"github.com/setun-compute/setun/dispatch"
)

// card is a backend with a device whose kernels of norm2 and dot answer with an error while there is one.
type card struct {
	sleepy
	fails error
	calls int
}

func (c *card) Kernels() []backends.Kernel {
	return []backends.Kernel{{Op: backends.OpNorm2, Name: "k", Threads: 1, Memory: 1}, {Op: backends.OpDot, Name: "k", Threads: 1, Memory: 1}}
}

func (c *card) Reduce(k backends.Kernel, a *backends.Reduce) error {
	if c.calls++; c.fails != nil {
		return backends.Fail(c.fails, k.Op, "", "as told")
	}
	return c.sleepy.Reduce(k, a)
}

func (c *card) Device() backends.Device { return heap{} }

// heap is memory of a device that only tells of itself.
type heap struct{ backends.Device }

func (heap) Info() (backends.DeviceInfo, error) {
	return backends.DeviceInfo{Name: "card", Driver: "1.2", Major: 9}, nil
}

// carded is a runtime that sends every norm2 and dot to a device, moving included.
func carded(t *testing.T, options ...Option) (*Runtime, *card) {
	t.Helper()
	c := &card{sleepy: sleepy{name: "card", nap: func() time.Duration { return 0 }}}
	rt := open(t, append(options, WithoutNative(), WithoutLearning(), WithRecheck(0), WithBackend(c))...)
	p := &dispatch.Profile{Links: []dispatch.Link{{Memory: 1, Launch: 10}}}
	arms := map[backends.Op][]dispatch.Arm{}
	for _, op := range []backends.Op{backends.OpNorm2, backends.OpDot} {
		arms[op] = rt.Arms(op)
		p.Set(op, arms[op][0], dispatch.Model{Coef: dispatch.Coef{1e6}})
		p.Set(op, arms[op][1], dispatch.Model{Coef: dispatch.Coef{1e3}})
	}
	r, err := dispatch.NewRouter(arms, p, dispatch.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	rt.router.Store(r)
	return rt, c
}

// A device that is lost is never asked again, not for other ops either; the CPU answers, and the report says why.
func TestLostDevice(t *testing.T) {
	rt, c := carded(t)
	x := ramp(100)
	if _, err := rt.Norm2(x); err != nil || c.calls != 1 {
		t.Fatalf("%d calls went to the device: %v", c.calls, err)
	}
	if b := last(rt); b.State != "loaded" || b.Device == nil || b.Device.Name != "card" {
		t.Errorf("%+v", b)
	}
	c.fails = backends.ErrLost
	want, err := rt.Norm2(x)
	if err != nil || c.calls != 2 {
		t.Fatalf("%d calls went to the device: %v", c.calls, err)
	}
	c.fails = nil
	for range 3 {
		if got, err := rt.Norm2(x); err != nil || got != want {
			t.Errorf("%v, %v", got, err)
		}
		if _, err := rt.Dot(x, x); err != nil {
			t.Error(err)
		}
	}
	if c.calls != 2 {
		t.Errorf("%d calls went to the device, two before it was known to be lost", c.calls)
	}
	if m := rt.healthOf(t, "card/k"); m.Health != "quarantined" || m.Fallbacks != 1 {
		t.Errorf("%+v", m)
	}
	if b := last(rt); b.State != "lost" || !strings.Contains(b.Reason, "as told") || b.Device == nil {
		t.Errorf("%+v", b)
	}
	rt.Close()
	if b := last(rt); b.State != "lost" || b.Device == nil {
		t.Errorf("after Close: %+v", b)
	}
}

func last(rt *Runtime) BackendReport {
	list := rt.Report().Backends
	return list[len(list)-1]
}

// A device without memory for a call is well: the CPU answers, and after a short rest it is asked again.
func TestDeviceWithoutMemory(t *testing.T) {
	rt, c := carded(t)
	c.fails = backends.ErrMemory
	x := ramp(100)
	for range 2 * dispatch.Strikes {
		rt.arms[backends.OpNorm2][1].condition.retry.Store(0)
		if _, err := rt.Norm2(x); err != nil {
			t.Fatal(err)
		}
	}
	if m := rt.healthOf(t, "card/k"); m.Health != "healthy" || m.Fallbacks != 2*dispatch.Strikes {
		t.Errorf("%+v", m)
	}
	before := c.calls
	if _, err := rt.Norm2(x); err != nil || c.calls != before {
		t.Errorf("it did not rest: %v", err)
	}
	if _, err := rt.Dot(x, x); err != nil || c.calls != before+1 {
		t.Errorf("the other op rests too: %v", err)
	}
	c.fails = nil
	time.Sleep(shortRest)
	if _, err := rt.Norm2(x); err != nil || c.calls != before+2 {
		t.Errorf("it still rests: %v", err)
	}
}

func TestStrictWithALostDevice(t *testing.T) {
	rt, c := carded(t, WithStrict())
	c.fails = backends.ErrLost
	if _, err := rt.Norm2(ramp(10)); !errors.Is(err, ErrStrict) || !errors.Is(err, ErrLost) || !errors.Is(err, ErrBackend) {
		t.Errorf("%v", err)
	}
	if _, err := rt.Norm2(ramp(10)); err != nil || c.calls != 1 {
		t.Errorf("it was asked again: %v", err)
	}
}

// What is learned from calls on a device is without the copies, and of a probe those of the arm that ran.
func TestCopiesAreNotLearned(t *testing.T) {
	rt, _ := carded(t)
	s := dispatch.Vector(backends.OpNorm2, 1000)
	d := rt.Decide(&s)
	if d.Arm != 1 || d.Moving < 10 || d.Nanos < 1000+d.Moving {
		t.Fatalf("%+v", d)
	}
	if host := rt.Router().Decide(&s, ^uint64(1)); host.Arm != 0 || host.Moving != 0 {
		t.Errorf("%+v", host)
	}
}

func TestChoiceOfDevices(t *testing.T) {
	for _, c := range []struct {
		environment string
		options     []Option
		looks       bool
	}{
		{"", nil, true}, {"none", nil, false}, {"all", nil, true}, {"0,1", nil, true},
		{"", []Option{WithoutCUDA()}, false}, {"none", []Option{WithCUDA(0)}, true}, {"", []Option{WithoutNative(), WithCUDA()}, false},
		{"", []Option{WithISA("scalar")}, false}, {"", []Option{WithISA("scalar"), WithCUDA()}, true}, {"0", []Option{WithISA("scalar")}, true},
	} {
		t.Setenv(simdc.ForceVariable, "") // one level alone would be without CUDA
		t.Setenv("SETUN_CUDA_DEVICES", c.environment)
		rt := open(t, append(c.options, WithLibraries(t.TempDir()))...)
		looked := false
		for _, b := range rt.Report().Backends {
			looked = looked || strings.HasPrefix(b.Name, "cuda")
		}
		if looked != c.looks {
			t.Errorf("%q, %d options: looked for CUDA: %v", c.environment, len(c.options), looked)
		}
	}
	t.Setenv("SETUN_CUDA_DEVICES", "first")
	if _, err := Open(); !errors.Is(err, ErrArgument) || !strings.Contains(err.Error(), "SETUN_CUDA_DEVICES") {
		t.Errorf("%v", err)
	}
	t.Setenv("SETUN_CUDA_DEVICES", "")
	if _, err := Open(WithCUDA(-1)); !errors.Is(err, ErrArgument) {
		t.Errorf("%v", err)
	}
}
