// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cuda"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/gputest"
	"github.com/setun-compute/setun/quant"
)

// onGPU is a runtime with such a device, on which everything is faster by the factor, and to which moving a value takes a nanosecond.
func onGPU(t testing.TB, factor float64) (*Runtime, *gputest.GPU) {
	t.Helper()
	g := gputest.New()
	rt := open(t, WithoutNative(), WithoutLearning(), WithBackend(g))
	prefer(t, rt, factor)
	return rt, g
}

// prefer makes everything faster by the factor on the second arm of each op, and moving a value to a device take a nanosecond.
func prefer(t testing.TB, rt *Runtime, factor float64) {
	t.Helper()
	p := &dispatch.Profile{Links: []dispatch.Link{{Memory: 1, Up: 0.25, Down: 0.25}}}
	arms := map[backends.Op][]dispatch.Arm{}
	for _, op := range backends.Ops() {
		arms[op] = rt.Arms(op)
		p.Set(op, arms[op][0], dispatch.Model{Coef: dispatch.Coef{1e6}})
		p.Set(op, arms[op][1], dispatch.Model{Coef: dispatch.Coef{1e6 / factor}})
	}
	r, err := dispatch.NewRouter(arms, p, dispatch.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	rt.router.Store(r)
}

func filled(t *testing.T, rt *Runtime, x []float32) *Buffer {
	t.Helper()
	b, err := rt.NewBuffer(len(x))
	if err == nil {
		err = b.Write(x)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *Buffer) values(t *testing.T) []float32 {
	t.Helper()
	x := make([]float32, b.Len())
	if err := b.Read(x); err != nil {
		t.Fatal(err)
	}
	return x
}

// chain does one of each op on buffers and on slices and compares.
func chain(t *testing.T, rt *Runtime) {
	t.Helper()
	ctx := context.Background()
	x, y := ramp(900), ramp(900)
	for i := range y {
		y[i] = float32(i%7) - 3
	}
	bx, by := filled(t, rt, x), filled(t, rt, y)
	bz, err := rt.NewBuffer(900)
	if err != nil {
		t.Fatal(err)
	}
	same := func(what string, got, want any, errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %.60s, want %.60s (%v)", what, fmt.Sprint(got), fmt.Sprint(want), err)
		}
	}
	same("zeros", bz.values(t), make([]float32, 900))
	n, e1 := bx.Norm2()
	m, e2 := rt.Norm2(x)
	same("norm2", n, m, e1, e2)
	n, e1 = bx.Dot(by)
	m, e2 = rt.Dot(x, y)
	same("dot", n, m, e1, e2)
	n, e1 = bx.Dot(bx)
	m, e2 = rt.Dot(x, x)
	same("dot with itself", n, m, e1, e2)
	e1 = bz.MatMul(ctx, bx, by, 30, 30, 30, MatMulOptions{})
	z, e2 := rt.MatMul(nil, x, y, 30, 30, 30, MatMulOptions{})
	same("matmul", bz.values(t), z, e1, e2)
	e1 = bz.MatMul(ctx, by, bx, 30, 30, 30, MatMulOptions{Accumulate: true})
	z, e2 = rt.MatMul(z, y, x, 30, 30, 30, MatMulOptions{Accumulate: true})
	same("more matmul", bz.values(t), z, e1, e2)
	n, e1 = bz.Constrain(ctx, nil, 10)
	z, m, e2 = rt.Constrain(z, z, 10)
	same("constrain in place", append(bz.values(t), float32(n)), append(z, float32(m)), e1, e2)
	n, e1 = by.Constrain(ctx, bx, 5)
	x, m, e2 = rt.Constrain(x, y, 5)
	same("constrain", append(bx.values(t), float32(n)), append(x, float32(m)), e1, e2)
	q, e1 := bx.Quantize(ctx, nil, quant.Options{Group: 90})
	r, e2 := rt.Quantize(nil, x, quant.Options{Group: 90})
	same("quantize", *q, *r, e1, e2)
	q, n, e1 = bx.Step(ctx, q, bz, 3, quant.Options{Rule: quant.LeastSquares})
	r, m, e2 = rt.Step(r, x, z, 3, quant.Options{Rule: quant.LeastSquares})
	same("step", append(bx.values(t), float32(n)), append(x, float32(m)), e1, e2)
	same("codes", *q, *r)
	for _, b := range []*Buffer{bx, by, bz} {
		if err := errors.Join(b.Close(), b.Close()); err != nil {
			t.Error(err)
		}
		if _, err := b.Norm2(); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// Calls on buffers give what calls on slices do, wherever they run.
func TestBuffers(t *testing.T) {
	chain(t, open(t, WithoutNative()))
	for _, factor := range []float64{0.1, 1.0005, 100} {
		rt, g := onGPU(t, factor)
		chain(t, rt)
		if g.Buffers() != 0 {
			t.Errorf("%d pieces of memory are left on the device", g.Buffers())
		}
		if (g.Calls > 0) != (factor > 1) {
			t.Errorf("factor %v: %d calls on the device", factor, g.Calls)
		}
	}
}

// The same on a GPU, or what stands in for one.
func TestBuffersOnCUDA(t *testing.T) {
	rt := open(t, libraries(t), WithoutLearning(), WithCUDA(0))
	if len(rt.devices) == 0 {
		gputest.NoCUDA(t, last(rt).Reason)
	}
	chain(t, open(t, libraries(t), WithoutLearning(), WithCUDA(0), WithForce(cuda.Name)))
}

// A chain of calls on a device copies nothing between them, where slices go up and down every time.
func TestBuffersStay(t *testing.T) {
	rt, g := onGPU(t, 100)
	a, b, c := filled(t, rt, ramp(900)), filled(t, rt, ramp(900)), filled(t, rt, ramp(900))
	for range 10 {
		if err := c.MatMul(context.Background(), a, b, 30, 30, 30, MatMulOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Constrain(context.Background(), a, 3); err != nil {
			t.Fatal(err)
		}
	}
	if g.Up != 1800 || g.Down != 0 || g.Calls != 20 {
		t.Errorf("%d values went up and %d down in %d calls, 1800 up would do", g.Up, g.Down, g.Calls)
	}
}

// What was on a device that is lost is gone, and the call says so; buffers that are in the program's memory too are not.
func TestBuffersOfALostDevice(t *testing.T) {
	rt, g := onGPU(t, 100)
	a, b := filled(t, rt, ramp(900)), filled(t, rt, ramp(900))
	if _, err := a.Constrain(context.Background(), nil, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Norm2(); err != nil {
		t.Fatal(err)
	}
	g.Fails = backends.ErrLost
	if n, err := b.Norm2(); err != nil || n == 0 {
		t.Errorf("%v, %v", n, err)
	}
	if _, err := a.Norm2(); !errors.Is(err, ErrLost) {
		t.Errorf("%v", err)
	}
	if err := a.Read(make([]float32, 900)); !errors.Is(err, ErrLost) {
		t.Errorf("%v", err)
	}
	if err := a.Write(ramp(900)); err != nil {
		t.Error(err)
	}
	if n, err := a.Norm2(); err != nil || n == 0 {
		t.Errorf("%v, %v", n, err)
	}
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	if m := rt.healthOf(t, "cpu/go"); m.Health != "healthy" {
		t.Errorf("%+v", m)
	}
}

func TestBuffersWithoutMemory(t *testing.T) {
	rt, g := onGPU(t, 100)
	g.Most = 1
	a, b := filled(t, rt, ramp(900)), filled(t, rt, ramp(900))
	if _, err := a.Norm2(); err != nil || g.Calls != 1 {
		t.Fatal(err)
	}
	if _, err := a.Dot(b); err != nil || g.Calls != 1 {
		t.Errorf("%d calls on the device: %v", g.Calls, err)
	}
}

// A product that was being added to a buffer when the kernel failed is spoiled, unless there is another copy.
func TestAccumulatingAndFailing(t *testing.T) {
	for _, onlyThere := range []bool{false, true} {
		rt, g := onGPU(t, 100)
		a, c := filled(t, rt, ramp(900)), filled(t, rt, ramp(900))
		want := c.values(t)
		if onlyThere {
			if _, err := c.Constrain(context.Background(), nil, math.Inf(1)); err != nil {
				t.Fatal(err)
			}
		}
		g.Fails = nil
		broken := func() { g.Fails = backends.ErrBackend }
		if _, err := a.Norm2(); err != nil { // it is there when the device fails
			t.Fatal(err)
		}
		if !onlyThere {
			if _, err := c.Norm2(); err != nil {
				t.Fatal(err)
			}
		}
		broken()
		err := c.MatMul(context.Background(), a, a, 30, 30, 30, MatMulOptions{Accumulate: true})
		if onlyThere != errors.Is(err, ErrBackend) {
			t.Fatalf("only on the device: %v: %v", onlyThere, err)
		}
		if onlyThere {
			continue
		}
		if want, err = open(t, WithoutNative()).MatMul(want, ramp(900), ramp(900), 30, 30, 30, MatMulOptions{Accumulate: true}); err != nil || !slices.Equal(c.values(t), want) {
			t.Errorf("other values than on the CPU: %v", err)
		}
	}
}

func TestWrongBuffers(t *testing.T) {
	rt, other := open(t, WithoutNative()), open(t, WithoutNative())
	if _, err := rt.NewBuffer(0); !errors.Is(err, ErrArgument) {
		t.Errorf("%v", err)
	}
	a, b, short := filled(t, rt, ramp(9)), filled(t, other, ramp(9)), filled(t, rt, ramp(4))
	for want, errs := range map[error][]error{
		ErrShape:    {a.Write(ramp(8)), a.Read(ramp(10)), second(a.Dot(short)), second(a.Dot(nil)), second(a.Constrain(context.Background(), short, 1))},
		ErrArgument: {second(a.Dot(b)), second(a.Constrain(context.Background(), nil, -1))},
		ErrAlias:    {a.MatMul(context.Background(), a, a, 3, 3, 3, MatMulOptions{})},
	} {
		for i, err := range errs {
			if !errors.Is(err, want) {
				t.Errorf("%v, case %d: %v", want, i, err)
			}
		}
	}
	if err := a.Write([]float32{0, 1, 2, float32(math.NaN()), 4, 5, 6, 7, 8}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Norm2(); !errors.Is(err, ErrNonFinite) || !strings.Contains(err.Error(), "x[3] = NaN") {
		t.Errorf("%v", err)
	}
	rt.Close()
	if err := a.Write(ramp(9)); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}

func second(_ float64, err error) error { return err }

// Calls that share buffers wait for each other, whatever their order.
func TestBuffersSideBySide(t *testing.T) {
	rt, _ := onGPU(t, 100)
	a, b := filled(t, rt, ramp(900)), filled(t, rt, ramp(900))
	want, err := a.Dot(b)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 50 {
				x, y := a, b
				if i%2 == 1 {
					x, y = b, a
				}
				if got, err := x.Dot(y); err != nil || got != want {
					t.Errorf("%v, %v", got, err)
				}
			}
		})
	}
	all.Wait()
}

// TestMapClosedWhileTheRuntimeCloses: a call in flight ends that finds a mapped slice closed after Close of the runtime has begun.
func TestMapClosedWhileTheRuntimeCloses(t *testing.T) {
	rt := open(t, WithoutNative())
	x, y := ramp(9), ramp(9)
	a, err := rt.Map(x)
	if err != nil {
		t.Fatal(err)
	}
	b, err := rt.Map(y)
	if err != nil {
		t.Fatal(err)
	}
	place, _ := a.lock.enter(t.Context())
	call, closing := make(chan error, 1), make(chan error, 1)
	go func() { call <- one(rt.Dot(x, y)) }()
	for a.lock.waiting.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	go func() { closing <- rt.Close() }()
	for !rt.closed.Load() {
		time.Sleep(time.Millisecond)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	a.lock.leave(place)
	if err := within(t, func() error { return <-call }); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := within(t, func() error { return <-closing }); err != nil {
		t.Error(err)
	}
}
