// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/runtime"
)

// chained are the places of what TestOperandsOnTwoDevicesInChild does: norms and constraints on the first device, products on the second, dots on the processor.
var chained = map[backends.Op]string{backends.OpNorm2: "cuda/cuda", backends.OpConstrain: "cuda/cuda", backends.OpMatMul: "cuda:1/cuda", backends.OpDot: "cpu/go"}

// side is that of the square matrices of a chain.
const side = 40

// chain has the matrices of a chain as buffers, and as pure Go has them.
type chain struct {
	buffers [3]*runtime.Buffer
	want    [3][]float32
}

func newChain(t *testing.T, rt *runtime.Runtime, seed uint64) *chain {
	t.Helper()
	d := &data{r: random(seed)}
	c := new(chain)
	for i := range c.buffers {
		c.want[i] = values(d, side*side)
		var err error
		if c.buffers[i], err = rt.NewBuffer(side * side); err == nil {
			err = c.buffers[i].Write(c.want[i])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// multiply adds the product of x and y to z, and constrain brings x in place to a ball that it is not in.
func (c *chain) multiply(t *testing.T, z, x, y int) {
	t.Helper()
	a := backends.MatMul{A: c.want[x], B: c.want[y], C: c.want[z], M: side, N: side, K: side, LDA: side, LDB: side, LDC: side, Batch: 1, Accumulate: true}
	if err := (cpu.Backend{}).MatMul(backends.Kernel{Op: backends.OpMatMul}, &a); err != nil {
		t.Fatal(err)
	}
	if err := c.buffers[z].MatMul(t.Context(), c.buffers[x], c.buffers[y], side, side, side, runtime.MatMulOptions{Accumulate: true}); err != nil {
		t.Error(err)
	}
}

func (c *chain) constrain(t *testing.T, x int) {
	t.Helper()
	a := backends.Constrain{X: c.want[x], Dst: c.want[x], Radius: c.norm(t, x) / 2}
	if err := (cpu.Backend{}).Constrain(backends.Kernel{Op: backends.OpConstrain}, &a); err != nil {
		t.Fatal(err)
	}
	if norm, err := c.buffers[x].Constrain(t.Context(), nil, a.Radius); err != nil || norm != a.Norm {
		t.Errorf("constrain: %v, %v is right: %v", norm, a.Norm, err)
	}
}

// norm is that of x, which the device has to have as pure Go has it.
func (c *chain) norm(t *testing.T, x int) float64 {
	t.Helper()
	a := backends.Reduce{X: c.want[x]}
	if err := (cpu.Backend{}).Reduce(backends.Kernel{Op: backends.OpNorm2}, &a); err != nil {
		t.Fatal(err)
	}
	if got, err := c.buffers[x].Norm2(); err != nil || got != a.Result {
		t.Errorf("norm2: %v, %v is right: %v", got, a.Result, err)
	}
	return a.Result
}

func (c *chain) same(t *testing.T) {
	t.Helper()
	for i, b := range c.buffers {
		got := make([]float32, side*side)
		if err := b.Read(got); err != nil || !bytes.Equal(backends.Bytes(got), backends.Bytes(c.want[i])) {
			t.Errorf("buffer %d: not the bits of pure Go (%v)", i, err)
		}
	}
}

// Operands of one call that lie on two devices, results of the one that the other goes on with, and parts of mapped slices: always the bits of pure Go.
func TestOperandsOnTwoDevicesInChild(t *testing.T) {
	if !inChild() {
		return
	}
	faking(t)
	rt := several(t, chained)
	c := newChain(t, rt, 5)
	for range 2 {
		c.constrain(t, 0)      // on the first device
		c.multiply(t, 2, 0, 1) // what the first made, and the host has, on the second
		c.norm(t, 2)           // what the second made, on the first
		c.constrain(t, 2)      // in place: what the second has is old
		c.multiply(t, 1, 2, 0)
		c.norm(t, 1)
		if err := c.buffers[0].Write(c.want[0]); err != nil { // on no device any more
			t.Fatal(err)
		}
		c.multiply(t, 2, 1, 1)
		if _, err := c.buffers[2].Dot(c.buffers[1]); err != nil { // and on the processor
			t.Error(err)
		}
	}
	c.same(t)
	if a, b := launches(t, rt, "cuda"), launches(t, rt, "cuda:1"); a == 0 || b == 0 {
		t.Errorf("%d kernels on the one, %d on the other", a, b)
	}
	for _, b := range c.buffers {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	rt.Close()
	if n := fake.live(); n != 0 {
		t.Errorf("%d things are left", n)
	}
}

// One of two devices is lost: the other goes on, keeps what it has, and what both had is not lost; what only the lost one had is, and says so.
func TestOneOfTwoDevicesIsLostInChild(t *testing.T) {
	if !inChild() {
		return
	}
	faking(t)
	for lost, name := range []string{"cuda", "cuda:1"} {
		other := []string{"cuda:1", "cuda"}[lost]
		t.Run(name, func(t *testing.T) {
			fake.reset()
			// Products on the device that stays, in-place work on the one that goes.
			rt := several(t, map[backends.Op]string{backends.OpNorm2: name + "/cuda", backends.OpConstrain: name + "/cuda", backends.OpMatMul: other + "/cuda"})
			c := newChain(t, rt, 7)
			c.norm(t, 1)           // both have 1 in the end, and the host;
			c.multiply(t, 2, 0, 1) // the other one alone has 2,
			c.constrain(t, 0)      // and the one that goes alone has 0
			d := &data{r: random(8)}
			x := values(d, 1000)
			want := backends.Reduce{X: x}
			if err := (cpu.Backend{}).Reduce(backends.Kernel{Op: backends.OpNorm2}, &want); err != nil {
				t.Fatal(err)
			}
			fake.fault("cuLaunchKernel", 1, 719)
			if got, err := rt.Norm2(x); err != nil || got != want.Result {
				t.Errorf("the call that met it: %v, %v", got, err)
			}
			fake.fault("cuLaunchKernel", 0, 0)
			if b := deviceOf(t, rt, name); b.State != "lost" || !strings.Contains(b.Reason, "719") {
				t.Errorf("%+v", b)
			}
			if b := deviceOf(t, rt, other); b.State != "loaded" || b.Device.Lost != 0 {
				t.Errorf("%+v", b)
			}
			before := launches(t, rt, other)
			c.norm(t, 2) // whoever may, with what the other one has
			c.multiply(t, 2, 1, 1)
			if launches(t, rt, other) == before {
				t.Error("the other device does nothing any more")
			}
			got := make([]float32, side*side)
			for _, i := range []int{1, 2} {
				if err := c.buffers[i].Read(got); err != nil || !slices.Equal(got, c.want[i]) {
					t.Errorf("buffer %d: %v", i, err)
				}
			}
			if err := c.buffers[0].Read(got); !errors.Is(err, backends.ErrLost) {
				t.Errorf("what the lost device alone had: %v", err)
			}
			if err := c.buffers[2].MatMul(t.Context(), c.buffers[0], c.buffers[1], side, side, side, runtime.MatMulOptions{}); !errors.Is(err, backends.ErrLost) {
				t.Errorf("a product of it: %v", err)
			}
			if b := deviceOf(t, rt, other); b.State != "loaded" {
				t.Errorf("the other device is blamed: %+v", b)
			}
			if err := c.buffers[0].Write(c.want[0]); err != nil {
				t.Error(err)
			}
			c.multiply(t, 2, 0, 1)
			c.same(t)
			for _, b := range c.buffers {
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}
			rt.Close()
			if n := fake.live(); n != 0 {
				t.Errorf("%d things are left", n)
			}
		})
	}
}

// A buffer that two devices have, which the program's memory has then too, outlives either of them.
func TestCopyOnTheOtherDeviceInChild(t *testing.T) {
	if !inChild() {
		return
	}
	faking(t)
	for _, lost := range []string{"cuda", "cuda:1"} {
		fake.reset()
		rt := several(t, map[backends.Op]string{backends.OpNorm2: "cuda/cuda", backends.OpDot: "cuda:1/cuda", backends.OpConstrain: "cuda/cuda"})
		c := newChain(t, rt, 11)
		c.constrain(t, 0)
		want := backends.Reduce{X: c.want[0], Y: c.want[0]}
		if err := (cpu.Backend{}).Reduce(backends.Kernel{Op: backends.OpDot}, &want); err != nil {
			t.Fatal(err)
		}
		dot := func(where string) {
			t.Helper()
			if got, err := c.buffers[0].Dot(c.buffers[0]); err != nil || math.Float64bits(got) != math.Float64bits(want.Result) {
				t.Errorf("%s: %v, %v", where, got, err)
			}
		}
		dot("on both")
		op := map[string]func() error{"cuda": func() error { _, err := rt.Norm2(c.want[1]); return err }, "cuda:1": func() error { _, err := rt.Dot(c.want[1], c.want[1]); return err }}[lost]
		fake.fault("cuLaunchKernel", 1, 719)
		if err := op(); err != nil {
			t.Error(err)
		}
		fake.fault("cuLaunchKernel", 0, 0)
		if b := deviceOf(t, rt, lost); b.State != "lost" {
			t.Fatalf("%+v", b)
		}
		dot("on one")
		c.norm(t, 0)
		got := make([]float32, side*side)
		if err := c.buffers[0].Read(got); err != nil || !slices.Equal(got, c.want[0]) {
			t.Errorf("%v", err)
		}
		rt.Close()
	}
}
