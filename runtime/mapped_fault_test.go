// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"math"
	"sync"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

// mappedOn maps slices and has a device read those that say so, which leaves copies in both memories.
func mappedOn(t *testing.T, rt *Runtime, both ...[]float32) {
	t.Helper()
	for _, x := range both {
		if _, err := rt.Map(x); err != nil {
			t.Fatal(err)
		}
		if _, err := rt.Norm2(x); err != nil {
			t.Fatal(err)
		}
	}
}

// norms are those of a slice at home, as the program reads it, and where the next call is.
func norms(t *testing.T, rt *Runtime, x []float32) (home, there float64) {
	t.Helper()
	there, err := rt.Norm2(x)
	if err == nil {
		err = rt.Home(x)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range x {
		home += float64(v) * float64(v)
	}
	return math.Sqrt(home), there
}

// TestMappedStepThatOverflows: a step that was applied and found a value that is not finite has changed the parameters in one memory, and no other copy of them is believed, whichever it was.
func TestMappedStepThatOverflows(t *testing.T) {
	for _, factor := range []float64{100, 0.01} { // on the device, or beside it
		rt, _ := onGPU(t, 100)
		params, delta := []float32{1, 1, math.MaxFloat32}, []float32{1, 1, math.MaxFloat32}
		mappedOn(t, rt, params)
		prefer(t, rt, factor)
		if _, _, err := rt.Step(nil, params, delta, math.Inf(1), quant.Options{}); !errors.Is(err, ErrNonFinite) {
			t.Fatal(err)
		}
		if n, err := rt.Norm2(params[:2]); err != nil || n != math.Sqrt(8) {
			t.Errorf("factor %v: a call finds a norm of %v: %v", factor, n, err)
		}
		if err := rt.Home(params); err != nil || params[0] != 2 || params[1] != 2 {
			t.Errorf("factor %v: at home %v: %v", factor, params, err)
		}
	}
}

// TestMappedFailsHalfWay: a kernel that writes several buffers fails; of each no spoiled copy is believed.
func TestMappedFailsHalfWay(t *testing.T) {
	rt, g := onGPU(t, 100)
	n := 50
	value, grad, m, v, delta := filler(n), filler(n), filler(n), filler(n), filler(n)
	mappedOn(t, rt, v)
	if _, err := rt.Map(m); err != nil {
		t.Fatal(err)
	}
	if _, _, err := rt.Constrain(m, m, 1e-3); err != nil { // only there
		t.Fatal(err)
	}
	g.Fails = backends.ErrBackend
	err := rt.Update(Update{Method: AdamW, Value: value, Grad: grad, M: m, V: v, Delta: delta, Rate: 1, Beta1: 0.5, Beta2: 0.5})
	if g.Fails = nil; !errors.Is(err, ErrBackend) {
		t.Fatal(err)
	}
	if home, there := norms(t, rt, v); math.Abs(home/there-1) > 1e-12 {
		t.Errorf("v is %v at home and %v for the next call", home, there)
	}
}

// TestBringThatFails: what a kernel needs could not be brought to it, so it has spoiled nothing, and another answers.
func TestBringThatFails(t *testing.T) {
	rt, g := onGPU(t, 100)
	x, y := ramp(900), ramp(900)
	mappedOn(t, rt, x)
	if _, _, err := rt.Constrain(x, x, 3); err != nil {
		t.Fatal(err)
	}
	before := g.Calls
	g.UploadFails = backends.ErrBackend
	if _, err := rt.Map(y); err != nil {
		t.Fatal(err)
	}
	d, err := rt.Dot(x, y)
	if err != nil || d == 0 || g.Calls != before {
		t.Errorf("%v, %d calls on the device: %v", d, g.Calls-before, err)
	}
}

// TestCloseThatFails: what is on the device alone is not thrown away because it could not be copied once.
func TestCloseThatFails(t *testing.T) {
	rt, g := onGPU(t, 100)
	x := ramp(900)
	b, err := rt.Map(x)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := rt.Constrain(x, x, 3); err != nil {
		t.Fatal(err)
	}
	g.Fails = backends.ErrBackend
	if err := b.Close(); !errors.Is(err, ErrBackend) {
		t.Errorf("%v", err)
	}
	g.Fails = nil
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if n, err := rt.Norm2(x); err != nil || math.Abs(n-3) > 1e-6 {
		t.Errorf("‖x‖ = %v, %v", n, err)
	}
}

// TestCallsBesideMapAndClose: a slice is the program's own before, between and after, and calls on it work at all times.
func TestCallsBesideMapAndClose(t *testing.T) {
	rt, _ := onGPU(t, 100)
	x := ramp(900)
	want, err := rt.Norm2(x)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				n, e1 := rt.Norm2(x)
				if err := errors.Join(e1, rt.Home(x), rt.Changed(x[3:4])); err != nil || n != want {
					t.Errorf("%v, %v", n, err)
					return
				}
			}
		})
	}
	for range 2000 {
		b, err := rt.Map(x)
		if err == nil {
			err = b.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	all.Wait()
}
