// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

// Any shapes, profiles and worlds, within the ranges that checks let through.

var anySize = rapid.Custom(func(t *rapid.T) int {
	return 1 + int(math.Exp2(rapid.Float64Range(0, 30).Draw(t, "log2 size")))
})

var anyOp = rapid.SampledFrom(backends.Ops())

func anyShape(t *rapid.T, op backends.Op) Shape {
	size := func(name string, most int) int { return min(most, anySize.Draw(t, name)) }
	var s Shape
	switch op {
	case backends.OpKMeans:
		s = KMeans(size("n", 1<<24), size("d", 1<<14), size("k", 1<<14))
	case backends.OpMatMul:
		s = MatMul(size("m", 1<<14), size("n", 1<<14), size("k", 1<<14), size("batch", 64))
		s.Fast = rapid.Bool().Draw(t, "fast")
	case backends.OpClusters:
		s = Clusters(size("n", 1<<30), size("k", 1<<20))
	case backends.OpQuantize, backends.OpStep:
		n := size("n", 1<<30)
		o := quant.Options{Rule: quant.Rule(rapid.IntRange(0, 4).Draw(t, "rule")), Group: rapid.SampledFrom([]int{0, 0, 64, 128}).Draw(t, "group")}.WithDefaults(n)
		if s = Quantize(n, o); op == backends.OpStep {
			s = Step(n, o)
		}
	default:
		s = Vector(op, size("n", 1<<30))
		if op == backends.OpConstrain && rapid.Bool().Draw(t, "inside") {
			s.Variant = Inside
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "beside") == 0 {
		s.Variant |= Beside
	}
	return s
}

func anyModel(t *rapid.T) Model {
	number := func(name string, most float64) float64 {
		return rapid.OneOf(rapid.Just(0.), rapid.Just(most), rapid.Float64Range(0, most), rapid.Float64Range(0, 10)).Draw(t, name)
	}
	m := Model{}
	for i := range m.Coef {
		m.Coef[i] = number("coefficient", maxCoef)
	}
	if m.Coef == (Coef{}) {
		m.Coef[0] = math.SmallestNonzeroFloat64
	}
	for range rapid.IntRange(0, 12).Draw(t, "cells") {
		m.Cells = append(m.Cells, Cell{
			Variant: Variant(rapid.IntRange(0, numVariant-1).Draw(t, "variant")),
			Class:   rapid.IntRange(0, numClasses-1).Draw(t, "class"),
			Log:     rapid.Float64Range(-maxLog, maxLog).Draw(t, "log"),
			Spread:  number("spread", 10),
			Samples: rapid.IntRange(0, 1<<30).Draw(t, "samples"),
		})
	}
	order := func(a, b Cell) int {
		return cmp.Or(cmp.Compare(a.Variant, b.Variant), cmp.Compare(a.Class, b.Class))
	}
	slices.SortFunc(m.Cells, order)
	m.Cells = slices.CompactFunc(m.Cells, func(a, b Cell) bool { return order(a, b) == 0 })
	return m
}

var someArms = []Arm{{Backend: "cpu", Kernel: "go"}, {Backend: "simd_c", Kernel: "avx2"}, {Backend: "simd_c", Kernel: "avx512"}, {Backend: "cpp", Kernel: "avx2x2", Threads: 2}, {Backend: "strange", Kernel: "one", Fast: true}}

// anyRouter makes a router of arms of all ops with a profile for some of them.
func anyRouter(t *rapid.T, policy Policy) *Router {
	arms, profile := map[backends.Op][]Arm{}, &Profile{}
	for _, op := range backends.Ops() {
		arms[op] = someArms[:rapid.IntRange(1, len(someArms)).Draw(t, "arms")]
		for _, a := range arms[op] {
			if rapid.Bool().Draw(t, "measured") {
				profile.Set(op, a, anyModel(t))
			}
		}
	}
	r, err := Hardware{Cores: rapid.IntRange(0, 256).Draw(t, "cores"), L3: rapid.IntRange(0, 1<<30).Draw(t, "cache")}.NewRouter(arms, profile, policy)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPredictionsAreFiniteAndPositive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRouter(t, Policy{})
		for range 8 {
			op := anyOp.Draw(t, "op")
			s := anyShape(t, op)
			for i := range r.Arms(op) {
				p := r.Predict(&s, i)
				if !(p.Nanos >= minNanos && p.Nanos <= maxNanos) || !(p.Spread >= 0 && p.Spread <= math.MaxFloat64) {
					t.Fatalf("%v %v on arm %d: %+v", op, s, i, p)
				}
			}
			if d := r.Decide(&s, 0); d.Arm < 0 || !(d.Nanos >= minNanos && d.Nanos <= maxNanos) {
				t.Fatalf("%v %v: %+v", op, s, d)
			}
		}
	})
}

func TestMoreWorkIsNeverFasterByTheRoofline(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, op := anyModel(t), anyOp.Draw(t, "op")
		small := anyShape(t, op)
		large := small
		grow := func(name string, x *int64) {
			if *x > 0 {
				*x += rapid.Int64Range(0, *x).Draw(t, "more "+name)
			}
		}
		grow("n", &large.N)
		grow("d", &large.D)
		grow("k", &large.K)
		grow("m", &large.M)
		grow("batch", &large.Batch)
		grow("groups", &large.Groups)
		grow("out", &large.Out)
		a, b := small.features(), large.features()
		if x, y := clamp(m.Coef.roofline(&a)), clamp(m.Coef.roofline(&b)); x > y {
			t.Fatalf("%v: %v takes %v, %v takes %v", op, small, x, large, y)
		}
		if small.Work() > large.Work() {
			t.Fatalf("%v: %v is %v, %v is %v", op, small, small.Work(), large, large.Work())
		}
	})
}

func TestForcedKernelsAreObeyed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SampledFrom(someArms).Draw(t, "kernel")
		force := rapid.SampledFrom([]string{a.Backend, a.String()}).Draw(t, "force")
		arms, profile := map[backends.Op][]Arm{}, &Profile{}
		for _, op := range backends.Ops() {
			arms[op] = someArms
			for _, a := range someArms {
				profile.Set(op, a, anyModel(t))
			}
		}
		r, err := NewRouter(arms, profile, Policy{Force: force, From: map[backends.Op]map[string]float64{backends.OpNorm2: {a.Backend: 1e9}}})
		if err != nil {
			t.Fatal(err)
		}
		op := anyOp.Draw(t, "op")
		s := anyShape(t, op)
		d := r.Decide(&s, 0)
		if a.Fast && !s.Fast { // results would not be canonical, and the call did not allow that
			if d.Arm >= 0 {
				t.Fatalf("%v %v forced to %s went to %v", op, s, force, someArms[d.Arm])
			}
			return
		}
		if d.Arm < 0 || someArms[d.Arm].String() != force && someArms[d.Arm].Backend != force || d.Reason != Forced {
			t.Fatalf("%v %v forced to %s: %+v", op, s, force, d)
		}
	})
}

// Whatever calls take, a probe is asked for only when the budget has what it is predicted to cost; so what exploration has cost is above the budget only by as much as a probe took longer than predicted.
func TestTheBudgetIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := NewLearner(anyRouter(t, Policy{}))
		scale := map[string]float64{}
		for _, op := range backends.Ops() {
			for i := range l.Router().Arms(op) {
				scale[fmt.Sprint(op, i)] = math.Exp(rapid.Float64Range(-4, 4).Draw(t, "times the prediction"))
			}
		}
		truth := l.Router()
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			op := anyOp.Draw(t, "op")
			s := anyShape(t, op)
			took := func(arm int) float64 {
				return truth.Predict(&s, arm).Nanos * scale[fmt.Sprint(op, arm)] * math.Exp(rapid.Float64Range(-1, 1).Draw(t, "noise"))
			}
			d := l.Router().Decide(&s, 0)
			parts := float64(rapid.IntRange(1, 10).Draw(t, "parts"))
			p := l.Observe(Observation{Shape: s, Arm: d.Arm, Nanos: took(d.Arm), Parts: parts, Weight: float64(rapid.IntRange(0, 100).Draw(t, "weight"))})
			cost, all := l.Exploration()
			budget := 1e6 + 0.01*all // as docs/dispatcher.md says
			if p == nil {
				continue
			}
			now := l.Router().Decide(&s, 0)
			if expected := (l.Router().Predict(&s, p.Arm).Nanos - now.Nanos) * parts * math.Exp(-l.arms[op][p.Arm].moved/2); l.arms[op][p.Arm].moved <= 0 && cost+expected > budget*1.01 {
				t.Fatalf("%v %v: explored for %v of %v, and a probe that is predicted to cost %v", op, s, cost, budget, expected)
			}
			if cost > budget {
				t.Fatalf("%v %v: a probe although %v of %v are spent", op, s, cost, budget)
			}
			l.Observe(Observation{Shape: s, Arm: p.Arm, Nanos: took(p.Arm), Parts: parts, Probe: true})
		}
	})
}
