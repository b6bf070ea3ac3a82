// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends/cuda"
	"github.com/setun-compute/setun/internal/gputest"
	"github.com/setun-compute/setun/runtime"
)

// story is what a model is made to do; it returns all results.
func story(t *testing.T, m *Model, mix float32) (results []any) {
	t.Helper()
	tell := func(v any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, v)
	}
	vocab := m.c.Vocab
	gradients := func() {
		t.Helper()
		tell(nil, m.Home())
		for _, p := range m.params {
			tell(slices.Clone(p.Grad), nil)
		}
	}
	m.SetMix(mix)
	for i, shape := range [][2]int{{1, 3}, {2, 5}, {2, 5}, {1, 4}} { // the memory of passes grows, and is used in part
		tokens, targets := randomTokens(uint64(5+i), shape[0]*shape[1], vocab), randomTokens(uint64(6+i), shape[0]*shape[1], vocab)
		tell(m.Backward(t.Context(), tokens, targets, shape[0], shape[1], 0.5))
		gradients()
		logits, err := m.Forward(t.Context(), tokens[:2], 1, 2)
		tell(slices.Clone(logits), err)
		tell(m.Loss(t.Context(), tokens, targets, shape[0], shape[1]))
		if i == 2 {
			tell(nil, m.ZeroGrad())
			for _, p := range m.params {
				for j := range p.Value {
					p.Value[j] *= 1.25
				}
				tell(nil, m.rt.Changed(p.Value))
			}
			tell(nil, m.Refresh())
			flipped, _ := m.Flips()
			tell(flipped, nil)
			m.SetMix(mix / 2)
		}
	}
	var text []int32
	tell(nil, m.Generate(t.Context(), []int32{1, 2}, 12, 0.7, 0, 3, func(token int32) error { text = append(text, token); return nil }))
	tell(text, nil)
	return results
}

// TestMappedModel: a model in a device's memory computes the bits of one in the program's, though what kernels write there is not in the program's slices.
func TestMappedModel(t *testing.T) {
	plain := opened(t)
	check := func(name string, rt *runtime.Runtime, c Config, mix float32) {
		want, m := made(t, plain, c, 3), made(t, rt, c, 3)
		stir(t, want, 4)
		stir(t, m, 4)
		told := story(t, want, mix)
		if err := m.Map(); err != nil {
			t.Fatal(err)
		}
		if err := m.Map(); err != nil { // once is enough
			t.Fatal(err)
		}
		if got := story(t, m, mix); fmt.Sprint(got) != fmt.Sprint(told) {
			for i := range told {
				if fmt.Sprint(got[i]) != fmt.Sprint(told[i]) {
					t.Errorf("%s, mix %v: result %d is\n%.200v, want\n%.200v", name, mix, i, got[i], told[i])
					break
				}
			}
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		for i, p := range m.params {
			same(t, name+": "+p.Name, p.Value, want.params[i].Value)
			same(t, name+": gradient of "+p.Name, p.Grad, want.params[i].Grad)
		}
		if got := story(t, m, mix); len(got) != len(told) {
			t.Errorf("%s: after Close: %d results", name, len(got))
		}
	}
	for name, c := range configs() {
		for _, mix := range []float32{0, 0.5, 1} {
			g := gputest.New()
			g.Stale = true
			rt := opened(t, runtime.WithoutCUDA(), runtime.WithBackend(g), runtime.WithForce(g.Name()))
			check(name, rt, c, mix)
			if g.Calls == 0 || g.Buffers() != 0 {
				t.Errorf("%s: %d calls on the device, %d buffers left", name, g.Calls, g.Buffers())
			}
		}
	}
	c := small()
	c.Ternary = true
	probe := opened(t, runtime.WithCUDA(0))
	if !slices.ContainsFunc(probe.Report().Backends, func(b runtime.BackendReport) bool { return b.Name == cuda.Name && b.State == "loaded" }) {
		gputest.NoCUDA(t, "there is no device")
	}
	check("CUDA", opened(t, runtime.WithCUDA(0), runtime.WithForce(cuda.Name)), c, 1)
}

// TestMappedStaysOnTheDevice: what moves in a pass is what the two ends of the network need, however many layers there are between them.
func TestMappedStaysOnTheDevice(t *testing.T) {
	traffic := func(layers int) int {
		g := gputest.New()
		rt := opened(t, runtime.WithoutCUDA(), runtime.WithBackend(g), runtime.WithForce(g.Name()))
		c := small()
		c.Layers = layers
		m := made(t, rt, c, 1)
		if err := m.Map(); err != nil {
			t.Fatal(err)
		}
		tokens := randomTokens(1, 12, c.Vocab)
		for step := range 3 {
			if step == 2 { // memory has grown, and all is there
				g.Up, g.Down = 0, 0
			}
			if err := m.ZeroGrad(); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Backward(t.Context(), tokens, tokens, 2, 6, 1); err != nil {
				t.Fatal(err)
			}
		}
		return g.Up + g.Down
	}
	one, four := traffic(1), traffic(4)
	if gains := 3 * 2 * small().Width; four != one+gains { // whose gradients are set to 0 in the program's memory
		t.Errorf("%d values move with one layer, %d with four", one, four)
	}
}
