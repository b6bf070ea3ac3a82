// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// TestReachIsWhereCodesFlip walks steps up to a_i and finds the code as it was, and past it and finds another.
func TestReachIsWhereCodesFlip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	for range 200_000 {
		scale := float32(math.Exp(r.NormFloat64()))
		h, outer := threshold(scale)
		x, d := float32(r.NormFloat64())*scale, float32(r.NormFloat64())*scale
		if r.IntN(8) == 0 {
			x = []float32{h, outer, -h, -outer, 0}[r.IntN(5)]
		}
		a := reachOf(x, d, h, outer)
		at := func(f float64) int8 { return code(x+float32(f*float64(d)), h) }
		if math.IsInf(a, 1) {
			if at(1) != code(x, h) || at(1000) != code(x, h) {
				t.Fatalf("x %v, step %v, threshold %v: flips although it moves away", x, d, h)
			}
			continue
		}
		if a < 0 || at(a*(1-0x1p-22)) != code(x, h) || at(a*1.001+1e-6/math.Abs(float64(d))*float64(scale)) == code(x, h) {
			t.Fatalf("x %v, step %v, threshold %v: a = %v, code %d before, %d after", x, d, h, a, at(a*(1-0x1p-22)), at(a*1.001))
		}
		if dist := distanceOf(x, h, outer); dist < 0 || dist > a*math.Abs(float64(d))*(1+1e-12) {
			t.Fatalf("x %v, step %v, threshold %v: distance %v, but it flips after %v", x, d, h, dist, a*math.Abs(float64(d)))
		}
	}
}

func TestSelectNth(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 3))
	for range 3000 {
		v := make([]float64, 1+r.IntN(60))
		for i := range v {
			v[i] = float64(r.IntN(1 + r.IntN(40)))
		}
		sorted, n := slices.Sorted(slices.Values(v)), r.IntN(len(v))
		selectNth(v, n)
		if v[n] != sorted[n] || slices.Max(v[:n+1]) != v[n] || slices.Min(v[n:]) != v[n] {
			t.Fatalf("%v: the %d-th of %v", v, n, sorted)
		}
	}
}

// TestFlipLimit: with the limit no more flip than it says, without it more do, and steps are not shortened when few would flip anyway.
func TestFlipLimit(t *testing.T) {
	rt := open(t)
	for _, rule := range []FlipRule{AlongStep, AnyDirection} {
		for _, group := range []int{0, quant.PerRow, 7} {
			free, limited := int64(0), 0
			for _, share := range []float64{0, 0.01} {
				tensors := model(12)[:1]
				o := must[*Optimizer](t)(New(rt, tensors, Options{CountFlips: true, FlipFrom: rule, Weights: quant.Options{Group: group}}))
				for step := range 5 {
					gradients(tensors, step)
					r := must[Report](t)(o.Step(t.Context(), Control{Rate: 0.02, FlipShare: share}))
					if share == 0 {
						free += r.Expected
						continue
					}
					if r.Expected > 4 { // ⌊0.01·480⌋
						t.Errorf("rule %d, group %d, step %d: %+v", rule, group, step, r)
					}
					limited += r.Limited
					if math.IsInf(o.parts[0].limits[0], 1) != (r.Limited == 0) && r.Projected > 0 {
						t.Errorf("%+v with the limit %v", r, o.parts[0].limits)
					}
				}
			}
			if free < 50 || limited == 0 {
				t.Errorf("rule %d, group %d: %d flips without a limit, %d steps limited: the test shows nothing", rule, group, free, limited)
			}
			tensors := model(12)[:1]
			o := must[*Optimizer](t)(New(rt, tensors, Options{CountFlips: true, FlipFrom: AlongStep, Weights: quant.Options{Group: group}}))
			gradients(tensors, 0)
			if r := must[Report](t)(o.Step(t.Context(), Control{Rate: 1e-5, FlipShare: 0.01})); r.Projected != 0 || r.Norm != r.Update {
				t.Errorf("a short step was shortened: %+v", r)
			}
		}
	}
}

// TestAnyDirectionHoldsForTheWorstStep moves the nearest weights straight over their thresholds with a step of the limit's length.
func TestAnyDirectionHoldsForTheWorstStep(t *testing.T) {
	rt := open(t)
	tensors := model(13)[:1]
	o := must[*Optimizer](t)(New(rt, tensors, Options{CountFlips: true, FlipFrom: AnyDirection}))
	gradients(tensors, 0)
	must[Report](t)(o.Step(t.Context(), Control{Rate: 0.02, FlipShare: 0.01}))
	p := &o.parts[0]
	if err := o.codes(false); err != nil {
		t.Fatal(err)
	}
	p.limit(0.01, 0, AnyDirection, make([]float64, len(p.Value)))
	left := p.limits[0] * p.limits[0]
	h, outer := threshold(p.before.Scales[0])
	var d []float64
	for _, x := range p.Value {
		d = append(d, distanceOf(x, h, outer))
	}
	slices.Sort(d)
	flips := 0
	for _, v := range d {
		if left -= v * v; left < 0 {
			break
		}
		flips++
	}
	if flips != 4 { // spends all but the margin on the nearest
		t.Errorf("a step of length %v can flip %d codes", p.limits[0], flips)
	}
}

func TestFlipFloor(t *testing.T) {
	rt := open(t)
	tensors := model(14)[:1]
	// All weights at their thresholds: every step flips, however short it is.
	for i := range tensors[0].Value {
		tensors[0].Value[i] = float32(1 - 2*(i&1))
		if i%4 < 2 {
			tensors[0].Value[i] /= 4
		}
	}
	scale := must[*quant.Tensor](t)(rt.Quantize(nil, tensors[0].Value, quant.Options{})).Scales[0]
	for i := range tensors[0].Value {
		if i%4 < 2 {
			tensors[0].Value[i] *= 2 * scale // near s/2 = 0.3125
		}
	}
	o := must[*Optimizer](t)(New(rt, tensors, Options{CountFlips: true, FlipFloor: 0.25}))
	gradients(tensors, 0)
	r := must[Report](t)(o.Step(t.Context(), Control{Rate: 0.1, FlipShare: 0.01}))
	if r.Limited != 1 || r.Norm < 0.249*r.Update {
		t.Errorf("%+v", r)
	}
}
