// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/gputest"
)

// lyingGPU is a device that changes what comes out by as little as there is, if it is told to.
type lyingGPU struct {
	*gputest.GPU
	lies bool
}

func (g *lyingGPU) Reduce(k backends.Kernel, a *backends.Reduce) error {
	err := g.GPU.Reduce(k, a)
	if g.lies {
		a.Result *= 1 + 0x1p-52
	}
	return err
}

func (g *lyingGPU) Constrain(k backends.Kernel, a *backends.Constrain) error {
	return errors.Join(g.GPU.Constrain(k, a), g.change(a.DstAt, len(a.Dst)))
}

func (g *lyingGPU) MatMul(k backends.Kernel, a *backends.MatMul) error {
	return errors.Join(g.GPU.MatMul(k, a), g.change(a.CAt, len(a.C)))
}

func (g *lyingGPU) change(at backends.Address, n int) error {
	x := make([]float32, n)
	if at == 0 || !g.lies {
		return nil
	}
	err := g.Download(backends.Bytes(x), at)
	for i := range x {
		x[i] *= 1 + 0x1p-23
	}
	return errors.Join(err, g.Upload(at, backends.Bytes(x)))
}

func onLyingGPU(t *testing.T, lies bool) (*Runtime, *lyingGPU) {
	t.Helper()
	g := &lyingGPU{GPU: gputest.New(), lies: lies}
	g.Stale = true
	rt := open(t, WithoutNative(), WithoutLearning(), WithRecheck(1), WithBackend(g))
	prefer(t, rt, 100)
	return rt, g
}

// TestF14RecheckOfBuffers: calls on buffers in a device's memory are held against pure Go as those on slices are.
func TestF14RecheckOfBuffers(t *testing.T) {
	ctx := context.Background()
	honest, _ := onLyingGPU(t, false)
	chain(t, honest)
	for _, m := range honest.Metrics() {
		if m.Kernel == "gpu/k" && (m.Rechecked != m.Calls || m.Health != "healthy") {
			t.Errorf("%+v", m)
		}
	}
	for name, c := range map[string]struct {
		inPlace bool
		do      func(a, dst *Buffer) (float64, error)
	}{
		"norm2":              {false, func(a, _ *Buffer) (float64, error) { return a.Norm2() }},
		"constrain":          {false, func(a, dst *Buffer) (float64, error) { return a.Constrain(ctx, dst, 1) }},
		"constrain in place": {true, func(a, _ *Buffer) (float64, error) { return a.Constrain(ctx, nil, 1) }},
		"matmul": {false, func(a, dst *Buffer) (float64, error) {
			return 0, dst.MatMul(ctx, a, a, 30, 30, 30, MatMulOptions{})
		}},
		"more matmul": {true, func(a, dst *Buffer) (float64, error) {
			return 0, dst.MatMul(ctx, a, a, 30, 30, 30, MatMulOptions{Accumulate: true})
		}},
	} {
		for _, there := range []bool{false, true} { // what it reads, and nowhere else
			rt, g := onLyingGPU(t, false)
			pure := open(t, WithoutNative())
			a, dst := filled(t, rt, filler(900)), filled(t, rt, filler(900))
			wantA, wantDst := filled(t, pure, filler(900)), filled(t, pure, filler(900))
			if there {
				for _, b := range []*Buffer{a, dst, wantA, wantDst} {
					if _, err := b.Constrain(ctx, nil, 9); err != nil {
						t.Fatal(err)
					}
				}
			}
			g.lies = true
			n, err := c.do(a, dst)
			if c.inPlace != errors.Is(err, ErrWrong) || !c.inPlace && err != nil {
				t.Errorf("%s, there %v: %v", name, there, err)
			}
			bad := false
			for _, m := range rt.Metrics() {
				bad = bad || m.Kernel == "gpu/k" && m.Health == "quarantined"
			}
			if !bad {
				t.Errorf("%s, there %v: the kernel is in use", name, there)
			}
			if c.inPlace {
				continue
			}
			want, err := c.do(wantA, wantDst)
			if err != nil || n != want || !slices.Equal(a.values(t), wantA.values(t)) || !slices.Equal(dst.values(t), wantDst.values(t)) {
				t.Errorf("%s, there %v: not what pure Go has: %v", name, there, err)
			}
		}
	}
}

// TestRecheckWithoutCopies: a call whose values cannot be had is not held against anything, and has not failed for that.
func TestRecheckWithoutCopies(t *testing.T) {
	rt, g := onLyingGPU(t, false)
	a := filled(t, rt, filler(900))
	if _, err := a.Constrain(context.Background(), nil, 1); err != nil {
		t.Fatal(err)
	}
	g.DownloadFails = ErrBackend
	if _, err := a.Norm2(); err != nil {
		t.Error(err)
	}
	g.DownloadFails = nil
	if m := rt.healthOf(t, "gpu/k"); m.Health != "healthy" {
		t.Errorf("%+v", m)
	}
	if _, err := a.Norm2(); err != nil {
		t.Error(err)
	}
}

// besideGPU is a runtime with a device and the kernels of a processor, and what has it prefer the one or the other by name.
func besideGPU(t *testing.T) (rt *Runtime, l *liar, to func(kernel string)) {
	t.Helper()
	l = new(liar)
	rt = open(t, WithoutNative(), WithoutLearning(), WithRecheck(0), WithBackend(gputest.New()), WithBackend(l))
	return rt, l, func(kernel string) {
		t.Helper()
		p, arms := &dispatch.Profile{Links: []dispatch.Link{{Memory: 1, Up: 0.25, Down: 0.25}}}, map[backends.Op][]dispatch.Arm{}
		for _, op := range backends.Ops() {
			arms[op] = rt.Arms(op)
			for _, a := range arms[op] {
				nanos := 1e6
				if a.String() == kernel {
					nanos = 1
				}
				p.Set(op, a, dispatch.Model{Coef: dispatch.Coef{nanos}})
			}
		}
		r, err := dispatch.NewRouter(arms, p, dispatch.Policy{})
		if err != nil {
			t.Fatal(err)
		}
		rt.router.Store(r)
	}
}

// TestF14RecheckBroughtHome: a processor's kernel is held against what was brought to it, and not against what the program's memory held before.
func TestF14RecheckBroughtHome(t *testing.T) {
	ctx := context.Background()
	rt, l, to := besideGPU(t)
	b := filled(t, rt, filler(900))
	to("gpu/k")
	if _, err := b.Constrain(ctx, nil, 9); err != nil || b.where.In.Has(dispatch.Host) {
		t.Fatalf("%b: %v", b.where.In, err)
	}
	to("liar/k")
	rt.recheck = 1 // not before: that would have brought the values home
	if _, err := b.Constrain(ctx, nil, 1); err != nil || l.calls != 1 {
		t.Errorf("%d calls of the processor's kernel: %v", l.calls, err)
	}
	if m := rt.healthOf(t, "liar/k"); m.Health != "healthy" || m.Rechecked != 1 {
		t.Errorf("%+v", m)
	}
}

// TestF14WrongInPlace: of a buffer in both memories, what a processor's kernel has computed wrongly in place is believed by no call, and the device's copy is what it was.
func TestF14WrongInPlace(t *testing.T) {
	ctx := context.Background()
	rt, l, to := besideGPU(t)
	b := filled(t, rt, filler(900))
	to("gpu/k")
	want, err := b.Norm2()
	if err != nil || b.where.In != 0b11 {
		t.Fatalf("%b: %v", b.where.In, err)
	}
	to("liar/k")
	rt.recheck, l.lies = 1, true
	if _, err := b.Constrain(ctx, nil, 1); !errors.Is(err, ErrWrong) {
		t.Fatal(err)
	}
	rt.recheck = 0
	for _, kernel := range []string{"gpu/k", "cpu/go"} {
		to(kernel)
		if got, err := b.Norm2(); err != nil || got != want {
			t.Errorf("%s: the norm is %v and not %v: %v", kernel, got, want, err)
		}
	}
	if !slices.Equal(b.values(t), filler(900)) {
		t.Error("the values are not what they were before the call")
	}
}

// TestF14WrongPart: a kernel that has computed a part of a mapped slice wrongly has not taken what it read: another answers.
func TestF14WrongPart(t *testing.T) {
	device, _ := onLyingGPU(t, true)
	processor, l := lying(t)
	l.lies = true
	y := filler(100)
	want, _, err := open(t, WithoutNative()).Constrain(nil, y, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, rt := range map[string]*Runtime{"device": device, "processor": processor} {
		x := filler(900)
		if _, err := rt.Map(x); err != nil {
			t.Fatal(err)
		}
		if _, _, err := rt.Constrain(x[100:200], y, 1); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := rt.Home(x); err != nil || !slices.Equal(x, slices.Concat(filler(900)[:100], want, filler(900)[200:])) {
			t.Errorf("%s: other values than pure Go's: %v", name, err)
		}
	}
}
