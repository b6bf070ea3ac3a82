// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/setun-compute/setun/internal/gputest"
	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

// TestMapped: steps on a device have the bits of others, though what kernels write there is not in the program's slices.
func TestMapped(t *testing.T) {
	rows := everything
	rows.Groups, rows.Every, rows.CountFlips = ByRow, 2, false
	any := everything
	any.FlipFrom = AnyDirection
	for name, opts := range map[string]Options{"everything": everything, "by row": rows, "any direction": any, "plain": {Clip: 1}, "flips": {CountFlips: true}, "momentum": {Method: SGD, Momentum: 0.9, Groups: ByKMeans, K: 4, Factors: Relative, Weights: quant.Options{}}} {
		g := gputest.New()
		g.Stale = true
		rt, err := setun.Open(setun.WithoutNative(), setun.WithProfile("none"), setun.WithoutLearning(), setun.WithBackend(g), setun.WithForce(g.Name()))
		if err != nil {
			t.Fatal(err)
		}
		defer rt.Close()
		want, got := model(1), model(1)
		a, b := must[*Optimizer](t)(New(open(t), want, opts)), must[*Optimizer](t)(New(rt, got, opts))
		var values []*setun.Buffer
		var before *State
		for _, p := range got {
			values = append(values, must[*setun.Buffer](t)(rt.Map(p.Value)), must[*setun.Buffer](t)(rt.Map(p.Grad)))
		}
		if err := b.Map(); err != nil {
			t.Fatal(err)
		}
		for step := range 7 {
			gradients(want, step)
			for i, p := range got {
				copy(p.Grad, want[i].Grad)
				if err := rt.Changed(p.Grad); err != nil {
					t.Fatal(err)
				}
			}
			c := control(step)
			if !opts.CountFlips {
				c.FlipShare = 0
			}
			r, s := must[Report](t)(a.Step(t.Context(), c)), must[Report](t)(b.Step(t.Context(), c))
			if fmt.Sprint(r) != fmt.Sprint(s) {
				t.Fatalf("%s, step %d: %+v, want %+v", name, step, s, r)
			}
			switch step {
			case 1:
				if err := b.Home(); err != nil {
					t.Fatal(err)
				}
				before = b.State(nil)
			case 4:
				if err := errors.Join(a.Load(before), b.Load(before)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		for _, v := range values {
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		}
		if digest(a.State(nil), want) != digest(b.State(nil), got) {
			t.Errorf("%s: other values or moments", name)
		}
		for i := range want {
			if !slices.Equal(want[i].Grad, got[i].Grad) {
				t.Errorf("%s: other clipped gradients of %s", name, want[i].Name)
			}
		}
		if g.Calls == 0 || g.Buffers() != 0 {
			t.Errorf("%s: %d calls on the device, %d buffers left", name, g.Calls, g.Buffers())
		}
	}
}
