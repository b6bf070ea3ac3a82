// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"errors"
	"math"
	"testing"

	setun "github.com/setun-compute/setun/runtime"
)

func TestCosPi(t *testing.T) {
	worst := 0.0
	for i := range 100_001 {
		x := float64(i) / 100_000
		worst = max(worst, math.Abs(cosPi(x)-math.Cos(math.Pi*x)))
	}
	if worst > 4e-16 || cosPi(0) != 1 || cosPi(1) != -1 || cosPi(0.5) != 0 {
		t.Errorf("off by %v; at 0, ½, 1: %v %v %v", worst, cosPi(0), cosPi(0.5), cosPi(1))
	}
}

func TestSchedules(t *testing.T) {
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-12 }
	for _, c := range []struct {
		s           Schedule
		step        int
		rate, decay float64
	}{
		{Schedule{Kind: Cosine, Steps: 110, Warmup: 10, Peak: 1, Final: 0.1, Decay: 0.1}, 0, 0.1, 0.1},
		{Schedule{Kind: Cosine, Steps: 110, Warmup: 10, Peak: 1, Final: 0.1, Decay: 0.1}, 9, 1, 0.1},
		{Schedule{Kind: Cosine, Steps: 110, Warmup: 10, Peak: 1, Final: 0.1, Decay: 0.1}, 10, 1, 0.1},
		{Schedule{Kind: Cosine, Steps: 110, Warmup: 10, Peak: 1, Final: 0.1, Decay: 0.1}, 60, 0.55, 0.1},
		{Schedule{Kind: Cosine, Steps: 110, Warmup: 10, Peak: 1, Final: 0.1}, 85, 0.1 + 0.9*(1-math.Sqrt2/2)/2, 0},
		{Schedule{Kind: TwoStage, Steps: 200, Warmup: 20, Peak: 1.5e-3, Decay: 0.1}, 20, 1.5e-3, 0.1},
		{Schedule{Kind: TwoStage, Steps: 200, Warmup: 20, Peak: 1.5e-3, Decay: 0.1}, 60, 1.15e-3, 0.1},
		{Schedule{Kind: TwoStage, Steps: 200, Warmup: 20, Peak: 1.5e-3, Decay: 0.1}, 99, 8e-4 + 7e-4/80, 0.1},
		{Schedule{Kind: TwoStage, Steps: 200, Warmup: 20, Peak: 1.5e-3, Decay: 0.1}, 100, 5e-4, 0},
		{Schedule{Kind: TwoStage, Steps: 200, Warmup: 20, Peak: 1.5e-3, Decay: 0.1}, 150, 2.5e-4, 0},
		{Schedule{Kind: TwoStage, Steps: 200, Peak: 1, Middle: 0.5, Second: 0.25, Final: 0.05}, 199, 0.052, 0},
		{Schedule{Kind: Linear, Steps: 10, Peak: 1, Decay: 2}, 5, 0.5, 2},
		{Schedule{Kind: Linear, Steps: 10, Peak: 1}, 1000, 0.1, 0},
		{Schedule{Kind: Constant, Steps: 10, Warmup: 2, Peak: 3}, -5, 1.5, 0},
		{Schedule{Kind: Constant, Steps: 10, Warmup: 2, Peak: 3}, 7, 3, 0},
		{Schedule{Kind: Cosine, Steps: 1, Peak: 3}, 0, 3, 0},
		{Schedule{Kind: TwoStage, Steps: 1, Peak: 3}, 0, 1, 0},
	} {
		if err := c.s.Check(); err != nil {
			t.Errorf("%+v: %v", c.s, err)
		}
		if rate, decay := c.s.At(c.step); !near(rate, c.rate) || decay != c.decay {
			t.Errorf("%+v at %d: %v, %v, want %v, %v", c.s, c.step, rate, decay, c.rate, c.decay)
		}
	}
	for _, s := range []Schedule{{}, {Kind: 9, Steps: 1}, {Steps: 5, Warmup: 6}, {Steps: 5, Warmup: -1}, {Kind: TwoStage, Steps: 10, Warmup: 6}, {Steps: 1, Peak: math.NaN()}, {Steps: 1, Peak: -1}, {Steps: 1, Decay: math.Inf(1)}} {
		if err := s.Check(); !errors.Is(err, setun.ErrArgument) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// TestClipAlone: over several tensors, with norms that differ by many orders.
func TestClipAlone(t *testing.T) {
	rt := open(t)
	tensors := model(1)
	for _, size := range []float32{1e-30, 1e-3, 1, 1e15, 1e30} {
		gradients(tensors, 0)
		for i := range tensors {
			for j := range tensors[i].Grad {
				tensors[i].Grad[j] *= size
				size = max(size/2, 1e-30)
			}
		}
		all := grads(tensors)
		norm := must[float64](t)(Clip(rt, tensors, 0))
		for _, share := range []float64{2, 1, 0.999999, 0.3, 1e-5} {
			setGrads(tensors, all)
			limit := norm * share
			if got := must[float64](t)(Clip(rt, tensors, limit)); got != norm {
				t.Errorf("norm %v, was %v", got, norm)
			}
			sum := exactSquare(tensors[0].Grad, tensors[1].Grad, tensors[2].Grad, tensors[3].Grad)
			if sum.Cmp(exactly(limit)) > 0 {
				t.Errorf("clip at %v of %v: beyond", limit, norm)
			}
			if f, _ := sum.Float64(); size > 1e-20 && math.Sqrt(f) < 0.999*min(limit, norm) {
				t.Errorf("clip at %v of %v: only %v is left", limit, norm, math.Sqrt(f))
			}
		}
	}
	if _, err := Clip(rt, tensors, -1); !errors.Is(err, setun.ErrArgument) {
		t.Error(err)
	}
}

// TestFactors: a cluster's learning-rate factor scales its steps, a radius factor its share.
func TestFactors(t *testing.T) {
	rt := open(t)
	tensors := model(1)[:1]
	o := must[*Optimizer](t)(New(rt, tensors, Options{Groups: ByRow}))
	gradients(tensors, 0)
	if err := o.Recluster(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.due() // before the first step clusters are made anew, so the factors are set after it
	must[Report](t)(o.Step(t.Context(), Control{Rate: 1e-3}))
	plain := must[Group](t)(o.Groups(0))
	for r := range tensors[0].Rows {
		if err := o.SetFactors(0, r, float64(r%2), float64(1+r%2)); err != nil {
			t.Fatal(err)
		}
	}
	must[Report](t)(o.Step(t.Context(), Control{Rate: 1e-3, Radius: 1}))
	g := must[Group](t)(o.Groups(0))
	for r := range g.Norms {
		if want := float64(r%2) * plain.Norms[r]; math.Abs(g.Norms[r]-want) > 1e-5*want { // AdamW's steps by the same gradient are alike
			t.Errorf("row %d: norm %v, want %v", r, g.Norms[r], want)
		}
		if want := float64(1+r%2) * g.Radii[0]; math.Abs(g.Radii[r]-want) > 1e-12 {
			t.Errorf("row %d: radius %v, want %v", r, g.Radii[r], want)
		}
	}
	// Relative: rows ten times as large get steps of up to twice the length.
	tensors = model(1)[:1]
	for j := range 20 {
		tensors[0].Value[j] *= 10
	}
	o = must[*Optimizer](t)(New(rt, tensors, Options{Groups: ByRow, Factors: Relative}))
	if err := o.Recluster(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g := must[Group](t)(o.Groups(0)); g.Rates[0] != 2 || g.Reach[0] != 2 || g.Rates[1] > 1 || g.Rates[1] < 0.5 {
		t.Errorf("%v", g.Rates)
	}
}

// TestClustersFindRows: rows of two sizes become two clusters, by a given K and by SuggestK.
func TestClustersFindRows(t *testing.T) {
	rt := open(t)
	for _, k := range []int{2, 0} {
		tensors := []Tensor{{Name: "a", Rows: 64, Cols: 8, Value: make([]float32, 512), Grad: make([]float32, 512), Ternary: true}}
		copy(tensors[0].Value, model(1)[0].Value)
		for j := range 512 {
			if j >= 256 {
				tensors[0].Value[j] = tensors[0].Value[j-256] + 3
			}
		}
		o := must[*Optimizer](t)(New(rt, tensors, Options{Groups: ByKMeans, K: k}))
		gradients(tensors, 0)
		r := must[Report](t)(o.Step(t.Context(), Control{Rate: 0.01}))
		g := must[Group](t)(o.Groups(0))
		for row, l := range g.Labels {
			if r.Groups != 2 || (l == g.Labels[0]) != (row < 32) {
				t.Fatalf("K = %d: %d groups, labels %v", k, r.Groups, g.Labels)
			}
		}
	}
}
