// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/gputest"
	"github.com/setun-compute/setun/quant"
)

// stuckGPU is a device of which one thing does not return before it is let go.
type stuckGPU struct {
	*gputest.GPU
	what   atomic.Pointer[string]
	inside atomic.Int64
	free   chan struct{}
	closed atomic.Bool
}

func (g *stuckGPU) stick(what string) {
	if w := g.what.Load(); w != nil && *w == what {
		g.inside.Add(1)
		<-g.free
	}
}

func (g *stuckGPU) Device() backends.Device { return g }
func (g *stuckGPU) Close() error            { g.closed.Store(true); return nil }

func (g *stuckGPU) Alloc(bytes int64) (backends.Address, error) {
	g.stick("alloc")
	return g.GPU.Alloc(bytes)
}

func (g *stuckGPU) Upload(to backends.Address, from []byte) error {
	g.stick("upload")
	return g.GPU.Upload(to, from)
}

func (g *stuckGPU) Download(to []byte, from backends.Address) error {
	g.stick("download")
	return g.GPU.Download(to, from)
}

func (g *stuckGPU) Constrain(k backends.Kernel, a *backends.Constrain) error {
	g.stick("kernel")
	return g.GPU.Constrain(k, a)
}

// onStuckGPU is a runtime that prefers such a device by the factor.
func onStuckGPU(t *testing.T, factor float64) (*Runtime, *stuckGPU) {
	t.Helper()
	g := &stuckGPU{GPU: gputest.New(), free: make(chan struct{})}
	rt := open(t, WithoutNative(), WithoutLearning(), WithRecheck(0), WithBackend(g))
	prefer(t, rt, factor)
	rt.patience = time.Millisecond
	return rt, g
}

// sticks has a call on a buffer left while the device is stuck.
func (g *stuckGPU) sticks(t *testing.T, what string, call func(context.Context) error) {
	t.Helper()
	g.what.Store(&what)
	before := g.inside.Load()
	ctx, cancel := endsWhen(t, func() bool { return g.inside.Load() > before })
	defer cancel()
	if err := within(t, func() error { return call(ctx) }); !errors.Is(err, ErrBlocked) || !errors.Is(err, context.Canceled) {
		t.Fatalf("%s: %v", what, err)
	}
}

// letGo has everything return, and waits for what was left.
func (g *stuckGPU) letGo(t *testing.T, rt *Runtime) {
	t.Helper()
	g.what.Store(nil)
	close(g.free)
	within(t, func() bool {
		for rt.held.Load() > 0 {
			time.Sleep(time.Millisecond)
		}
		return true
	})
}

// TestF17BlockedBuffer: wherever a call on a buffer does not return, in memory, in a copy or in the kernel, its caller goes on, the buffer is the call's, and who wants it is told so, until it has returned.
func TestF17BlockedBuffer(t *testing.T) {
	want, _, err := open(t, WithoutNative()).Constrain(nil, filler(900), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"alloc", "upload", "kernel"} {
		rt, g := onStuckGPU(t, 100)
		b := filled(t, rt, filler(900))
		g.sticks(t, what, func(ctx context.Context) error { _, err := b.Constrain(ctx, nil, 1); return err })
		for name, call := range map[string]func() error{
			"norm2": func() error { return second(b.Norm2()) },
			"write": func() error { return b.Write(filler(900)) },
			"read":  func() error { return b.Read(make([]float32, 900)) },
		} {
			if err := within(t, call); !errors.Is(err, ErrBlocked) {
				t.Errorf("%s, %s: %v", what, name, err)
			}
		}
		if rt.resting(backends.OpConstrain) == 0 {
			t.Errorf("%s: the device's kernel does not rest", what)
		}
		g.letGo(t, rt)
		if got := b.values(t); !slices.Equal(got, want) {
			t.Errorf("%s: the call returned, and its result is not there", what)
		}
		if err := b.Close(); err != nil || g.Buffers() != 0 {
			t.Errorf("%s: %d buffers: %v", what, g.Buffers(), err)
		}
	}
}

// TestF17BlockedHome: pure Go does not keep its caller either when what it needs does not come from a device, and does not rest.
func TestF17BlockedHome(t *testing.T) {
	rt, g := onStuckGPU(t, 100)
	b := filled(t, rt, filler(900))
	if _, err := b.Norm2(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Constrain(t.Context(), nil, 1); err != nil || b.where.In.Has(0) {
		t.Fatalf("%v: %b", err, b.where.In)
	}
	want := b.where.In
	prefer(t, rt, 0.001)
	g.sticks(t, "download", func(ctx context.Context) error { _, err := b.Quantize(ctx, nil, quant.Options{}); return err })
	if rt.resting(backends.OpQuantize) != 0 {
		t.Error("pure Go rests")
	}
	if err := rt.Close(); !errors.Is(err, ErrBlocked) || g.closed.Load() {
		t.Errorf("the device is closed: %v, %v", g.closed.Load(), err)
	}
	g.letGo(t, rt)
	if b.where.In != want|1 {
		t.Errorf("%b", b.where.In)
	}
}

// TestF17BlockedWeights: nor do the values that the host reads itself keep their caller.
func TestF17BlockedWeights(t *testing.T) {
	for name, call := range map[string]func(*Runtime, context.Context, []float32) error{
		"kmeans": func(rt *Runtime, ctx context.Context, x []float32) error {
			return one(rt.KMeans(ctx, nil, filler(1800), 2, KMeansOptions{K: 2, Weights: x}))
		},
		"many": func(rt *Runtime, ctx context.Context, x []float32) error {
			return one(rt.KMeansMany(ctx, nil, [][]float32{x}, 2, KMeansOptions{K: 2}))
		},
		"suggestions": func(rt *Runtime, ctx context.Context, x []float32) error {
			return one(rt.SuggestK(ctx, x, 2, SuggestOptions{}))
		},
	} {
		rt, g := onStuckGPU(t, 100)
		x := filler(900)
		if _, err := rt.Map(x); err != nil {
			t.Fatal(err)
		}
		if _, _, err := rt.Constrain(x, x, 1); err != nil {
			t.Fatal(err)
		}
		g.sticks(t, "download", func(ctx context.Context) error { return call(rt, ctx, x) })
		if err := within(t, func() error { return rt.Home(x) }); !errors.Is(err, ErrBlocked) {
			t.Errorf("%s: %v", name, err)
		}
		g.letGo(t, rt)
		if err := rt.Home(x); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestF17CloseOfABlockedBuffer: memory that a kernel writes to is not given back before it has returned; and then it is.
func TestF17CloseOfABlockedBuffer(t *testing.T) {
	rt, g := onStuckGPU(t, 100)
	b := filled(t, rt, filler(900))
	g.sticks(t, "kernel", func(ctx context.Context) error { _, err := b.Constrain(ctx, nil, 1); return err })
	for range 2 {
		if err := within(t, b.Close); !errors.Is(err, ErrBlocked) || g.Buffers() != 1 {
			t.Errorf("%d buffers: %v", g.Buffers(), err)
		}
	}
	if err := b.Write(filler(900)); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	g.letGo(t, rt)
	if err := b.Close(); err != nil || g.Buffers() != 0 {
		t.Errorf("%d buffers: %v", g.Buffers(), err)
	}
}

// TestF17CloseOfABlockedMap: a mapped slice stays mapped while a call that was left has it, and is brought home by a Close afterwards.
func TestF17CloseOfABlockedMap(t *testing.T) {
	want, _, err := open(t, WithoutNative()).Constrain(nil, filler(900), 1)
	if err != nil {
		t.Fatal(err)
	}
	rt, g := onStuckGPU(t, 100)
	x := filler(900)
	b, err := rt.Map(x)
	if err != nil {
		t.Fatal(err)
	}
	g.sticks(t, "kernel", func(ctx context.Context) error { _, _, err := rt.ConstrainContext(ctx, x, x, 1); return err })
	if err := errors.Join(within(t, b.Close), within(t, func() error { return rt.Home(x) })); !errors.Is(err, ErrBlocked) || errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	g.letGo(t, rt)
	if err := b.Close(); err != nil || !slices.Equal(x, want) || g.Buffers() != 0 {
		t.Errorf("%d buffers: %v", g.Buffers(), err)
	}
}

// TestF17WaitsForABlockedBuffer: who waits for a buffer, without a context, when its call is left is told so.
func TestF17WaitsForABlockedBuffer(t *testing.T) {
	rt, g := onStuckGPU(t, 100)
	b := filled(t, rt, filler(900))
	waiter := make(chan error, 1)
	what := "kernel"
	g.what.Store(&what)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for g.inside.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		go func() { waiter <- second(b.Norm2()) }()
		for b.lock.waiting.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if err := within(t, func() error { _, err := b.Constrain(ctx, nil, 1); return err }); !errors.Is(err, ErrBlocked) {
		t.Errorf("%v", err)
	}
	if err := within(t, func() error { return <-waiter }); !errors.Is(err, ErrBlocked) {
		t.Errorf("who waited: %v", err)
	}
	g.letGo(t, rt)
}
