// SPDX-License-Identifier: Apache-2.0

package train

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/parallel"
)

// graded is a short run of two blocks with a schedule.
func graded(path, precision string) Config {
	c := plain(path)
	c.Layers, c.Steps, c.Start, c.Ramp, c.Precision = 2, 20, 0.2, 0.6, precision
	c.EvalEvery, c.CheckpointEvery = 100, 0
	return c
}

// TestMixesOverSteps: every layer goes from 0 to 1 without a step back within its part of the ramp, before the next one begins; their mean is λ; and the end is exactly 1, whatever start and ramp are.
func TestMixesOverSteps(t *testing.T) {
	c := Default()
	s := &ordering{Place: []int{3, 0, 7, 1, 6, 2, 5, 4}, Cost: make([]float64, 8)}
	c.Layers, c.Steps = 2, 1000
	got, before := make([]float32, 8), make([]float32, 8)
	for _, precision := range []string{"", byDepth, byDepthReverse, bySensitivity, bySuggestion} {
		for _, share := range [][2]float64{{0.1, 0.4}, {0, 1}, {0.7, 0.3}, {0.35, 0.65}, {0.5, 0.001}, {0.3, 0.0007}} {
			c.Precision, c.Start, c.Ramp = precision, share[0], share[1]
			if err := c.Check(); err != nil {
				t.Fatal(err)
			}
			clear(before)
			for step := range c.Steps + 1 {
				mean := c.mix(step)
				c.mixes(got, mean, s)
				sum, between := 0.0, map[int]bool{}
				for i, v := range got {
					place := map[string]int{byDepth: i / 4, byDepthReverse: 1 - i/4, bySensitivity: s.Place[i], bySuggestion: s.Place[i]}[precision]
					if v < before[i] || !(v >= 0 && v <= 1) {
						t.Fatalf("%q %v, step %d: layer %d goes from %v to %v", precision, share, step, i, before[i], v)
					}
					if sum += float64(v) / 8; v > 0 && v < 1 {
						between[place] = true
					}
				}
				if math.Abs(sum-float64(mean)) > 1e-6 || precision != "" && len(between) > 1 {
					t.Fatalf("%q %v, step %d: %v, mean %v", precision, share, step, got, mean)
				}
				if begin := share[0] * 1000; float64(step) <= begin && share[1] > 0 && sum != 0 || float64(step) >= begin+share[1]*1000+1e-6 && sum != 1 {
					t.Fatalf("%q %v, step %d: %v", precision, share, step, got)
				}
				copy(before, got)
			}
			if slices.ContainsFunc(got, func(v float32) bool { return v != 1 }) {
				t.Errorf("%q %v: the end is %v", precision, share, got)
			}
		}
	}
	c.Precision, c.Start, c.Ramp = byDepth, 0, 1
	for step, want := range map[int][2]float32{0: {0, 0}, 250: {0.5, 0}, 500: {1, 0}, 750: {1, 0.5}, 1000: {1, 1}} {
		if c.mixes(got, c.mix(step), nil); got[0] != want[0] || got[3] != want[0] || got[4] != want[1] || got[7] != want[1] {
			t.Errorf("depth, step %d: %v", step, got)
		}
	}
	for _, c.Precision = range []string{bySensitivity, bySuggestion} {
		if c.mixes(got, 0.5, nil); slices.Max(got) != 0 {
			t.Errorf("an order that is not known yet: %v", got)
		}
		if c.mixes(got, 0.25, s); got[1] != 1 || got[3] != 1 || got[5] != 0 || got[0] != 0 {
			t.Errorf("%s: %v", c.Precision, got)
		}
	}
}

// TestSchedulesResume: stopped before the ramp, at its first step, within it and after it, evaluated at other steps, on other backends: each schedule ends in the same checkpoint and the same model, which has every layer ternary.
func TestSchedulesResume(t *testing.T) {
	path := text(t)
	ends := map[string]bool{}
	for _, precision := range []string{"", byDepth, byDepthReverse, bySensitivity, bySuggestion} {
		for _, int8s := range []bool{false, true} {
			c := graded(path, precision)
			c.Int8 = int8s
			straight := t.TempDir()
			s, records, err := Run(t.Context(), open(t), c, Options{Folder: straight})
			if err != nil {
				t.Fatal(err)
			}
			if last := records[len(records)-1]; last.Mix != 1 || s.Model == nil || (len(s.Order) == 8) != measured(precision) {
				t.Errorf("%q: λ = %v, %d layers in order, %+v", precision, last.Mix, len(s.Order), s.Model)
			}
			for i := 1; i < len(s.Order); i++ {
				if s.Order[i].Cost < s.Order[i-1].Cost || s.Order[i].Place != i+1 || s.Order[i].Layer == s.Order[i-1].Layer {
					t.Errorf("order: %+v", s.Order)
				}
			}
			ends[string(weights(t, straight))] = true
			for _, every := range []int{100, 5} {
				parts := t.TempDir()
				for _, stop := range []int{4, 5, 9, 0} { // the ramp begins with step 4, the fifth
					c := c
					c.EvalEvery = every
					if every == 5 {
						c.CheckpointEvery = 3
					}
					options := []runtime.Option{}
					if stop%2 == 1 {
						options = append(options, runtime.WithoutNative())
					}
					if _, _, err := Run(t.Context(), open(t, options...), c, Options{Folder: parts, Resume: true, Stop: stop}); err != nil {
						t.Fatal(err)
					}
				}
				a, b := k(t, straight), k(t, parts)
				for name, v := range a.floats {
					if !slices.Equal(v, b.floats[name]) {
						t.Errorf("%q, int8 %v, evaluated every %d steps: %s differs", precision, int8s, every, name)
					}
				}
				x, errX := os.ReadFile(filepath.Join(straight, modelFile))
				y, errY := os.ReadFile(filepath.Join(parts, modelFile))
				if errX != nil || errY != nil || !bytes.Equal(x, y) {
					t.Errorf("%q: the models differ: %v, %v", precision, errX, errY)
				}
			}
		}
	}
	if len(ends) != 10 {
		t.Errorf("%d different ends of 10 schedules", len(ends))
	}
}

// k loads a folder's checkpoint.
func k(t *testing.T, folder string) *checkpoint {
	t.Helper()
	c, err := load(filepath.Join(folder, checkpointFile))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSensitivityIsMeasured compares the costs with losses of models of which one layer is ternary, and looks at the layers in the middle of the ramp.
func TestSensitivityIsMeasured(t *testing.T) {
	c := graded(text(t), bySensitivity)
	tr, err := newTrainer(t.Context(), open(t), c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for tr.step < 5 { // the ramp begins with the fifth, whose λ is 0
		if _, err := tr.one(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if tr.layers != nil {
		t.Fatal("measured before the ramp")
	}
	if err := tr.rank(t.Context(), tr.step); err != nil {
		t.Fatal(err)
	}
	s := tr.layers
	tokens, targets := make([]int32, c.Batch*c.Context), make([]int32, c.Batch*c.Context)
	loss := func(only int) float64 {
		lambdas, sum := make([]float32, 8), 0.0
		if only >= 0 {
			lambdas[only] = 1
		}
		if err := tr.model.SetMixes(lambdas); err != nil {
			t.Fatal(err)
		}
		for i := range sensitivityBatches {
			tr.text.batch(tr.step+i, 0, tokens, targets)
			l, err := tr.model.Loss(t.Context(), tokens, targets, c.Batch, c.Context)
			if err != nil {
				t.Fatal(err)
			}
			sum += l / sensitivityBatches
		}
		return sum
	}
	base := loss(-1)
	for i, cost := range s.Cost {
		if got := loss(i) - base; got != cost {
			t.Errorf("layer %d costs %v, want %v", i, cost, got)
		}
		for j := range s.Cost {
			if s.Cost[i] < s.Cost[j] && s.Place[i] > s.Place[j] {
				t.Errorf("layer %d costs less than %d and comes later", i, j)
			}
		}
	}
	tr.layers = nil
	for tr.step < 10 {
		if _, err := tr.one(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(tr.layers.Place, s.Place) || !slices.Equal(tr.layers.Cost, s.Cost) {
		t.Error("the run measured something else")
	}
	if done := len(tr.lambdas) - len(slices.DeleteFunc(slices.Clone(tr.lambdas), func(v float32) bool { return v == 1 })); done == 0 || done == 8 {
		t.Errorf("in the middle λ are %v", tr.lambdas)
	}
}

// TestRanksAgreeOnTheOrder: each rank has windows of its own and measures the same, or their parameters would part, which is an error.
func TestRanksAgreeOnTheOrder(t *testing.T) {
	for _, precision := range []string{bySensitivity, bySuggestion} {
		c := graded(text(t), precision)
		var all [2]Summary
		var errs [2]error
		var wait sync.WaitGroup
		for r, peers := range parallel.Local(2) {
			rt := open(t)
			wait.Go(func() { all[r], _, errs[r] = Run(t.Context(), rt, c, Options{Peers: peers}) })
		}
		wait.Wait()
		if errs[0] != nil || errs[1] != nil || len(all[0].Order) != 8 || !slices.Equal(all[0].Order, all[1].Order) {
			t.Errorf("%s: %+v, %v; %+v, %v", precision, all[0].Order, errs[0], all[1].Order, errs[1])
		}
	}
}

func TestPrecisionRefused(t *testing.T) {
	c := graded(text(t), "width")
	if err := c.Check(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), `precision = "width"`) || !strings.Contains(err.Error(), bySensitivity+", "+bySuggestion) {
		t.Errorf("%v", err)
	}
	for _, precision := range []string{byDepth, byDepthReverse, bySensitivity, bySuggestion} {
		if c.Precision, c.Ramp = precision, 0; !errors.Is(c.Check(), ErrConfig) {
			t.Errorf("%s without a ramp: %v", precision, c.Check())
		}
	}
	for _, bad := range []ordering{{}, {Place: []int{0, 1}, Cost: []float64{1}}, {Place: []int{0, 0}, Cost: []float64{1, 2}}, {Place: []int{2, 0}, Cost: []float64{1, 2}}, {Place: []int{-1, 0}, Cost: []float64{1, 2}}, {Place: []int{0, 1, 2}, Cost: []float64{1, 2, 3}}} {
		if err := bad.check(2); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	good := ordering{Place: []int{1, 0}, Cost: []float64{2, 1}}
	if err := good.check(2); err != nil {
		t.Error(err)
	}
	if err := (*ordering)(nil).check(2); err != nil {
		t.Error(err)
	}
}
