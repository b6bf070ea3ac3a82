// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
)

// stuck is a backend whose kernels do not return before they are let go, and look at nothing.
type stuck struct {
	liar
	free   chan struct{}
	inside atomic.Int64 // calls that are or have been in a kernel
	closed atomic.Bool
}

func (s *stuck) Name() string { return "stuck" }
func (s *stuck) Close() error { s.closed.Store(true); return nil }

func (s *stuck) stick() {
	s.inside.Add(1)
	<-s.free
}

func (s *stuck) Reduce(k backends.Kernel, a *backends.Reduce) error {
	s.stick()
	return cpu.Backend{}.Reduce(k, a)
}

func (s *stuck) Quantize(k backends.Kernel, a *backends.Quantize) error {
	s.stick()
	return cpu.Backend{}.Quantize(k, a)
}

func (s *stuck) Constrain(k backends.Kernel, a *backends.Constrain) error {
	s.stick()
	return cpu.Backend{}.Constrain(k, a)
}

func (s *stuck) KMeans(ctx context.Context, k backends.Kernel, a *backends.KMeans) error {
	s.stick()
	return cpu.Backend{}.KMeans(context.Background(), k, a)
}

// endsWhen is a context that is cancelled once something is so: a deadline may be over before a call has begun.
func endsWhen(t *testing.T, so func() bool) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for !so() && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	return ctx, cancel
}

// TestF17Blocked: a kernel that does not return does not keep its caller past the deadline; it rests until it does, others answer, Close does not wait, and what the call works with is left to it.
func TestF17Blocked(t *testing.T) {
	for name, call := range map[string]func(*Runtime, context.Context, []float32) error{
		"quantize": func(rt *Runtime, ctx context.Context, x []float32) error {
			_, err := rt.QuantizeContext(ctx, nil, x, quant.Options{})
			return err
		},
		"constrain": func(rt *Runtime, ctx context.Context, x []float32) error {
			_, _, err := rt.ConstrainContext(ctx, x, x, 1)
			return err
		},
		"kmeans": func(rt *Runtime, ctx context.Context, x []float32) error {
			_, err := rt.KMeans(ctx, nil, x, 2, KMeansOptions{K: 2})
			return err
		},
	} {
		s := &stuck{free: make(chan struct{})}
		rt := open(t, WithoutNative(), WithoutLearning(), WithBackend(s))
		prefer(t, rt, 100)
		rt.patience = time.Millisecond
		x := filler(100)
		ctx, cancel := endsWhen(t, func() bool { return s.inside.Load() > 0 })
		err := within(t, func() error { return call(rt, ctx, x) })
		cancel()
		if !errors.Is(err, ErrBlocked) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "stuck/k") {
			t.Errorf("%s: %v", name, err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		if err := call(rt, ctx, filler(100)); err != nil { // pure Go's
			t.Errorf("%s, the next call: %v", name, err)
		}
		cancel()
		if err := rt.Close(); !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "stuck") || s.closed.Load() {
			t.Errorf("%s, close: %v; closed: %v", name, err, s.closed.Load())
		}
		if rt.resting(backends.OpQuantize)|rt.resting(backends.OpConstrain)|rt.resting(backends.OpKMeans) == 0 {
			t.Errorf("%s: the kernel does not rest", name)
		}
		close(s.free) // it writes to x, which nobody else does
		for rt.blocked(1) > 0 {
			time.Sleep(time.Millisecond)
		}
		for rt.resting(backends.OpQuantize)|rt.resting(backends.OpConstrain)|rt.resting(backends.OpKMeans) != 0 { // it has come back
			time.Sleep(time.Millisecond)
		}
	}
}

// hung is a stuck backend all of whose places are taken by calls without a context.
func hung(t *testing.T) (*Runtime, *stuck) {
	t.Helper()
	s := &stuck{free: make(chan struct{})}
	rt := open(t, WithoutNative(), WithoutLearning(), WithBackend(s))
	prefer(t, rt, 100)
	x := filler(100)
	var all sync.WaitGroup
	for range rt.gate.limit {
		all.Go(func() {
			if _, err := rt.Norm2(x); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(all.Wait)
	t.Cleanup(func() { close(s.free) }) // before that
	for s.inside.Load() < rt.gate.limit {
		time.Sleep(time.Millisecond)
	}
	return rt, s
}

// within fails the test when a call has not returned after a minute.
func within[R any](t *testing.T, call func() R) (r R) {
	t.Helper()
	done := make(chan R, 1)
	go func() { done <- call() }()
	select {
	case r = <-done:
	case <-time.After(time.Minute):
		t.Fatal("it does not return")
	}
	return r
}

// TestF17NoPlace: when kernels that do not return have all places, a caller waits for one until his context ends.
func TestF17NoPlace(t *testing.T) {
	rt, _ := hung(t)
	ctx, cancel := endsWhen(t, func() bool { return rt.gate.waiting.Load() > 0 })
	defer cancel()
	err := within(t, func() error { _, err := rt.QuantizeContext(ctx, nil, filler(100), quant.Options{}); return err })
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrBlocked) { // what it was given is the caller's
		t.Errorf("%v", err)
	}
}

// TestF17BufferInUse: a caller waits for a buffer that a call without a context has until his own ends.
func TestF17BufferInUse(t *testing.T) {
	s := &stuck{free: make(chan struct{})}
	rt := open(t, WithoutNative(), WithoutLearning(), WithBackend(s))
	prefer(t, rt, 100)
	b, weights := filled(t, rt, filler(100)), make([]float32, 50)
	mapped, err := rt.Map(weights)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, b := range []*Buffer{b, mapped} {
		all.Go(func() {
			if _, err := b.Norm2(); err != nil {
				t.Error(err)
			}
		})
	}
	defer all.Wait()
	defer close(s.free) // before that
	for s.inside.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	for name, call := range map[string]func(context.Context) error{
		"quantize": func(ctx context.Context) error { _, err := b.Quantize(ctx, nil, quant.Options{}); return err },
		"kmeans": func(ctx context.Context) error {
			_, err := rt.KMeans(ctx, nil, filler(100), 2, KMeansOptions{K: 2, Weights: weights})
			return err
		},
		"suggestions": func(ctx context.Context) error {
			_, err := rt.SuggestK(ctx, weights, 2, SuggestOptions{})
			return err
		},
	} {
		ctx, cancel := endsWhen(t, func() bool { return b.lock.waiting.Load()+mapped.lock.waiting.Load() > 0 })
		if err := within(t, func() error { return call(ctx) }); !errors.Is(err, context.Canceled) || errors.Is(err, ErrBlocked) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

// TestF17RestsUntilAllReturn: an arm whose kernel does not return stays out of the choice whatever becomes of other calls on it, and until the last of those that do not return has.
func TestF17RestsUntilAllReturn(t *testing.T) {
	const op, calls = backends.OpQuantize, 3
	s := &stuck{free: make(chan struct{})}
	rt := open(t, WithoutNative(), WithoutLearning(), WithBackend(s))
	prefer(t, rt, 100)
	rt.patience = time.Millisecond
	m := rt.arms[op][1]
	for range calls {
		m.condition.retry.Store(0) // as if they had begun at once
		rt.failed[op].Store(0)
		before := s.inside.Load()
		ctx, cancel := endsWhen(t, func() bool { return s.inside.Load() > before })
		if err := within(t, func() error { return one(rt.QuantizeContext(ctx, nil, filler(100), quant.Options{})) }); !errors.Is(err, ErrBlocked) {
			t.Fatal(err)
		}
		cancel()
	}
	rests := func(when string) {
		t.Helper()
		if rt.resting(op) == 0 || !m.condition.away() {
			t.Errorf("after %s it is tried again", when)
		}
	}
	rests("the calls")
	rt.short(op, 1, ErrMemory)
	rests("one that had no memory")
	rt.happened(op, 1, dispatch.Failed, ErrBackend)
	rests("one that failed")
	rt.happened(op, 1, dispatch.Answered, nil)
	rests("one that answered")
	if n := rt.blocked(1); n != calls {
		t.Errorf("%d calls have not returned", n)
	}
	for left := int64(calls - 1); left >= 0; left-- {
		s.free <- struct{}{}
		within(t, func() bool {
			for rt.blocked(1) > left {
				time.Sleep(time.Millisecond)
			}
			return true
		})
		if left > 0 {
			rests("one that has returned")
		}
	}
	if rt.resting(op) != 0 {
		t.Error("all have returned, and it rests")
	}
}

// TestLateButThere: a kernel that returns while the call still waits has answered, also after the context's end.
func TestLateButThere(t *testing.T) {
	s := &stuck{free: make(chan struct{})}
	rt := open(t, WithoutNative(), WithoutLearning(), WithBackend(s))
	prefer(t, rt, 100)
	rt.patience = time.Minute
	ctx, cancel := endsWhen(t, func() bool { return s.inside.Load() > 0 })
	defer cancel()
	context.AfterFunc(ctx, func() { close(s.free) })
	if _, err := rt.QuantizeContext(ctx, nil, filler(100), quant.Options{}); err != nil && !errors.Is(err, context.Canceled) || errors.Is(err, ErrBlocked) {
		t.Errorf("%v", err)
	}
	if m := rt.healthOf(t, "stuck/k"); m.Health != "healthy" {
		t.Errorf("%+v", m)
	}
}

// counting is a backend that counts who is in it at a time.
type counting struct {
	liar
	inside, most atomic.Int64
}

func (c *counting) Name() string { return "counting" }

func (c *counting) Reduce(k backends.Kernel, a *backends.Reduce) error {
	n := c.inside.Add(1)
	defer c.inside.Add(-1)
	for m := c.most.Load(); n > m && !c.most.CompareAndSwap(m, n); m = c.most.Load() {
	}
	time.Sleep(10 * time.Microsecond)
	return cpu.Backend{}.Reduce(k, a)
}

// TestCallsInKernelsAreBounded: however many goroutines call.
func TestCallsInKernelsAreBounded(t *testing.T) {
	c := new(counting)
	rt := open(t, WithoutNative(), WithoutLearning(), WithBackend(c))
	prefer(t, rt, 100)
	x := filler(10)
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			for range 10 {
				if _, err := rt.Norm2(x); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := c.most.Load(); n > rt.gate.limit || n == 0 {
		t.Errorf("%d calls at a time, %d may be", n, rt.gate.limit)
	}
}
