// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

func TestBadOptionsAndTensors(t *testing.T) {
	rt := open(t)
	for i, o := range []Options{{Method: 2}, {Beta1: 1}, {Beta2: -1}, {Beta2: math.NaN()}, {Eps: -1}, {Eps: math.Inf(1)}, {Momentum: 1}, {Clip: -1}, {Clip: math.NaN()}, {Share: 2}, {Groups: 3}, {Factors: 2}, {FlipFrom: 2}, {K: -1},
		{MaxK: -1}, {Every: -1}, {FlipFloor: 1.5}, {Weights: quant.Options{Levels: quant.Quinary}}, {Weights: quant.Options{Rule: quant.Stochastic}}, {Weights: quant.Options{Group: -2}}, {Weights: quant.Options{Group: 21}}} {
		if _, err := New(rt, model(1), o); !errors.Is(err, setun.ErrArgument) {
			t.Errorf("options %d: %v", i, err)
		}
	}
	good := model(1)[0]
	wrong := func(f func(*Tensor)) Tensor { p := good; f(&p); return p }
	for i, c := range []struct {
		tensors []Tensor
		want    error
	}{
		{nil, setun.ErrArgument},
		{[]Tensor{good, good}, setun.ErrArgument},
		{[]Tensor{wrong(func(p *Tensor) { p.Name = "" })}, setun.ErrArgument},
		{[]Tensor{wrong(func(p *Tensor) { p.Rows = 0 })}, setun.ErrShape},
		{[]Tensor{wrong(func(p *Tensor) { p.Rows = 7 })}, setun.ErrShape},
		{[]Tensor{wrong(func(p *Tensor) { p.Value = nil })}, setun.ErrShape},
		{[]Tensor{wrong(func(p *Tensor) { p.Grad = p.Grad[1:] })}, setun.ErrShape},
	} {
		if _, err := New(rt, c.tensors, Options{}); !errors.Is(err, c.want) {
			t.Errorf("tensors %d: %v", i, err)
		}
		if _, err := NewCompressor(rt, c.tensors, CompressOptions{}); !errors.Is(err, c.want) {
			t.Errorf("tensors %d of a compressor: %v", i, err)
		}
	}
	if _, err := New(nil, model(1), Options{}); !errors.Is(err, setun.ErrArgument) {
		t.Error(err)
	}
	for _, o := range []CompressOptions{{Coding: 2}, {Sigma: -1}, {Sigma: math.NaN()}, {Group: -2}} {
		if _, err := NewCompressor(rt, model(1), o); !errors.Is(err, setun.ErrArgument) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	o := must[*Optimizer](t)(New(rt, model(1), Options{}))
	for _, c := range []Control{{Rate: -1}, {Rate: math.NaN()}, {Decay: math.Inf(1)}, {Radius: -1}, {Radius: math.NaN()}, {FlipShare: 2}, {FlipShare: 0.1}} {
		if _, err := o.Step(t.Context(), c); !errors.Is(err, setun.ErrArgument) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, err := range []error{o.SetFactors(9, 0, 1, 1), o.SetFactors(0, 1, 1, 1), o.SetFactors(0, 0, -1, 1), o.SetFactors(0, 0, 1, math.Inf(1))} {
		if !errors.Is(err, setun.ErrArgument) {
			t.Error(err)
		}
	}
	if _, err := o.Groups(-1); !errors.Is(err, setun.ErrArgument) {
		t.Error(err)
	}
}

// TestBadGradientChangesNothing: the tensor is named, and values, moments and the count of steps stay.
func TestBadGradientChangesNothing(t *testing.T) {
	tensors := model(1)
	o := must[*Optimizer](t)(New(open(t), tensors, everything))
	steps(t, o, tensors, 0, 2)
	before, values := o.State(nil), slices.Clone(tensors[0].Value)
	gradients(tensors, 2)
	tensors[2].Grad[3] = float32(math.Inf(1))
	_, err := o.Step(t.Context(), control(2))
	if !errors.Is(err, setun.ErrNonFinite) || errors.Is(err, ErrUnfinished) || !strings.Contains(err.Error(), "t2") {
		t.Error(err)
	}
	if d := cmp.Diff(before, o.State(nil)) + cmp.Diff(values, tensors[0].Value); d != "" {
		t.Error(d)
	}
	gradients(tensors, 2)
	if _, err := o.Step(t.Context(), Control{Rate: 1e308}); !errors.Is(err, setun.ErrNonFinite) || !errors.Is(err, ErrUnfinished) {
		t.Errorf("a step that overflows: %v", err)
	}
}

func TestBadStates(t *testing.T) {
	rt := open(t)
	tensors := model(1)
	o := must[*Optimizer](t)(New(rt, tensors, everything))
	steps(t, o, tensors, 0, 2)
	before := o.State(nil)
	for i, spoil := range []func(s *State){
		func(s *State) { s.Step = -1 },
		func(s *State) { delete(s.Floats, "t1/m") },
		func(s *State) { s.Floats["t3/v"] = s.Floats["t3/v"][1:] },
		func(s *State) { s.Floats["t3/v"][0] = -1 },
		func(s *State) { s.Floats["t0/step"][5] = float32(math.NaN()) },
		func(s *State) { s.Labels["t0"][2] = 99 },
		func(s *State) { s.Labels["t0"][2] = -1 },
		func(s *State) { s.Labels["t0"] = s.Labels["t0"][1:] },
		func(s *State) { delete(s.Factors, "t0/rate") },
		func(s *State) { s.Factors["t0/reach"][0] = math.Inf(1) },
		func(s *State) { s.Factors["t2/rate"] = []float64{1, 1} },
	} {
		s := o.State(nil)
		spoil(s)
		if err := o.Load(s); !errors.Is(err, ErrState) {
			t.Errorf("state %d: %v", i, err)
		}
	}
	if err := o.Load(nil); !errors.Is(err, ErrState) {
		t.Error(err)
	}
	if d := cmp.Diff(before, o.State(nil)); d != "" {
		t.Error(d)
	}
	c := must[*Compressor](t)(NewCompressor(rt, tensors, CompressOptions{Coding: Feedback}))
	for _, s := range []*State{nil, {}, before} {
		if err := c.Load(s); !errors.Is(err, ErrState) {
			t.Error(err)
		}
	}
}

// FuzzState loads states that say anything. One that is refused changes nothing, and one that is taken is what State returns.
func FuzzState(f *testing.F) {
	rt := open(f)
	text := func(t testing.TB, o *Optimizer) string {
		b, err := json.Marshal(o.State(nil))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	fresh := func(t testing.TB) *Optimizer {
		list := []Tensor{{Name: "a", Rows: 3, Cols: 2, Value: []float32{1, 2, -1, 2, 1, -2}, Grad: []float32{1, 0, 1, 0, -1, 1}, Ternary: true}, {Name: "b", Rows: 1, Cols: 2, Value: make([]float32, 2), Grad: make([]float32, 2)}}
		return must[*Optimizer](t)(New(rt, list, Options{Groups: ByKMeans, K: 2}))
	}
	o := fresh(f)
	f.Add([]byte(text(f, o)))
	must[Report](f)(o.Step(f.Context(), Control{Rate: 0.1, Radius: 1}))
	whole := text(f, o)
	for _, s := range []string{whole, strings.Replace(whole, `"a/m":[0,`, `"a/m":[1e38,`, 1), strings.Replace(whole, `"step":1`, `"step":-1`, 1), `{"step":1}`, `{"labels":{"a":[-1,1000000]}}`, "null"} {
		f.Add([]byte(s))
	}
	o = fresh(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var s State
		if json.Unmarshal(data, &s) != nil {
			return
		}
		before := text(t, o)
		if err := o.Load(&s); err != nil {
			if !errors.Is(err, ErrState) || text(t, o) != before {
				t.Fatalf("%v, and it is\n%s after\n%s", err, text(t, o), before)
			}
			return
		}
		taken := text(t, o)
		again := fresh(t)
		if err := again.Load(o.State(nil)); err != nil || text(t, again) != taken {
			t.Fatalf("what was taken is refused, or is another: %v\n%s\n%s", err, taken, text(t, again))
		}
	})
}
