// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
)

// TestCacheIsForward reads a text one token after another, and in pieces, and compares every logit with Forward's of the whole.
func TestCacheIsForward(t *testing.T) {
	rt := opened(t)
	for name, c := range configs() {
		mixes := []float32{0}
		if c.Ternary {
			mixes = []float32{0, 0.5, 1}
		}
		for _, mix := range mixes {
			m := made(t, rt, c, 21)
			stir(t, m, 22)
			m.SetMix(mix)
			text := randomTokens(23, c.Context, c.Vocab)
			want, err := m.Forward(background, text, 1, len(text))
			if err != nil {
				t.Fatal(err)
			}
			want = slices.Clone(want)
			for _, steps := range [][]int{{1, 2, 3, 4, 5, 6}, {3, 4, 6}, {6}} {
				g := generator{m: m, cache: make([][]float32, c.Layers)}
				for i := range g.cache {
					g.cache[i] = make([]float32, c.Context*3*c.Width)
				}
				for _, n := range steps {
					got, err := g.read(background, text[:n])
					if err != nil {
						t.Fatal(err)
					}
					same(t, name, got, want[(n-1)*c.Vocab:n*c.Vocab])
				}
			}
		}
	}
}

// TestGenerateTakesForwardsBest goes on past the context.
func TestGenerateTakesForwardsBest(t *testing.T) {
	rt := opened(t)
	for name, c := range configs() {
		m := made(t, rt, c, 24)
		stir(t, m, 25)
		for _, prompt := range [][]int32{{3}, randomTokens(26, 6, c.Vocab), randomTokens(27, 11, c.Vocab)} {
			var got []int32
			err := m.Generate(background, prompt, 10, 0, 0, 0, func(v int32) error { got = append(got, v); return nil })
			if err != nil || len(got) != 10 {
				t.Fatalf("%s: %d tokens: %v", name, len(got), err)
			}
			window := slices.Clone(prompt[max(0, len(prompt)-c.Context):])
			for i, v := range got {
				logits, err := m.Forward(background, window, 1, len(window))
				if err != nil {
					t.Fatal(err)
				}
				last := logits[len(logits)-c.Vocab:]
				if best := slices.Index(last, slices.Max(last)); int32(best) != v {
					t.Fatalf("%s: token %d is %d, Forward says %d", name, i, v, best)
				}
				if len(window) == c.Context {
					window = window[c.Context-c.Context/2:]
				}
				window = append(slices.Clone(window), v)
			}
		}
	}
}

// TestManyRowsAreTernaryMatMul compares the product of many rows of codes, by MatMul, with the runtime's own, for a scale of the tensor, of rows and of groups.
func TestManyRowsAreTernaryMatMul(t *testing.T) {
	rt := opened(t)
	for _, group := range []int{0, quant.PerRow, 5} {
		c := small()
		c.Ternary, c.QuantizeActivations, c.Group, c.Context = true, true, group, 40
		m := made(t, rt, c, 33)
		stir(t, m, 34)
		x := randomTokens(35, 40, c.Vocab)
		for _, keep := range []bool{false, true} {
			if _, err := m.forward(background, &pass{tokens: x, batch: 1, length: 40, keep: keep}); err != nil {
				t.Fatal(err)
			}
			l := &m.layers[1].down // the last one: m.int8s are its inputs
			want, err := rt.TernaryMatMul(nil, &m.int8s, l.codes)
			if err != nil {
				t.Fatal(err)
			}
			same(t, l.w.Name, m.buffers.delta[:40*c.Width], want)
			for i, v := range l.hat[:40*c.Hidden] {
				if w := float32(m.int8s.Codes[i]) * m.int8s.Scales[i/c.Hidden]; keep && v != w {
					t.Fatalf("input %d of the backward pass is %v, want %v", i, v, w)
				}
			}
		}
	}
}

func TestDrawing(t *testing.T) {
	c := small()
	m := made(t, opened(t), c, 28)
	g := generator{m: m, chances: make([]float64, c.Vocab)}
	logits := []float32{0, 1, 2, -1, 2, 0.5, -30}
	counts := func(temperature float64, topK int) []float64 {
		n := make([]float64, c.Vocab)
		for i := range 20_000 {
			n[g.draw(logits, temperature, topK, 5, uint64(i))] += 1. / 20_000
		}
		return n
	}
	for _, k := range []int{0, 3, 7, 100} {
		for _, temperature := range []float64{0.5, 1, 2} {
			want, sum := make([]float64, c.Vocab), 0.0
			for i, v := range logits {
				if k != 3 || v >= 1 {
					want[i] = math.Exp(float64(v) / temperature)
				}
				sum += want[i]
			}
			for i, p := range counts(temperature, k) {
				if math.Abs(p-want[i]/sum) > 0.015 {
					t.Errorf("temperature %v, top %d: token %d drawn %.4f of the time, want %.4f", temperature, k, i, p, want[i]/sum)
				}
			}
		}
	}
	for k := 1; k <= 7; k++ {
		sorted := slices.Sorted(slices.Values(logits))
		if got := g.kth(logits, k); got != sorted[len(sorted)-k] {
			t.Errorf("the %d-th greatest: %v", k, got)
		}
	}
	if g.draw(logits, 0, 0, 1, 1) != 2 || g.draw(logits, 1, 1, 1, 1) != 2 {
		t.Error("of equal ones not the lowest")
	}
}

func TestGenerateRefuses(t *testing.T) {
	c := small()
	m := made(t, opened(t), c, 29)
	emit := func(int32) error { t.Error("emitted"); return nil }
	for _, bad := range []struct {
		prompt      []int32
		n           int
		temperature float64
		topK        int
		want        error
	}{
		{nil, 1, 1, 0, ErrShape},
		{[]int32{7}, 1, 1, 0, ErrToken},
		{[]int32{1}, -1, 1, 0, ErrArgument},
		{[]int32{1}, 1, -1, 0, ErrArgument},
		{[]int32{1}, 1, math.NaN(), 0, ErrArgument},
		{[]int32{1}, 1, math.Inf(1), 0, ErrArgument},
		{[]int32{1}, 1, 1, -1, ErrArgument},
		{[]int32{1}, 0, 1, 0, nil},
	} {
		if err := m.Generate(background, bad.prompt, bad.n, bad.temperature, bad.topK, 1, emit); !errors.Is(err, bad.want) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := m.Generate(background, []int32{1}, 1, 1, 0, 1, nil); !errors.Is(err, ErrArgument) {
		t.Errorf("no emit: %v", err)
	}
	stop := errors.New("enough")
	calls := 0
	if err := m.Generate(background, []int32{1}, 9, 1, 0, 1, func(int32) error { calls++; return stop }); err != stop || calls != 1 {
		t.Errorf("%d calls: %v", calls, err)
	}
	ctx, cancel := context.WithCancel(background)
	if err := m.Generate(ctx, []int32{1}, 9, 1, 0, 1, func(int32) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
	one := c
	one.Context = 1
	calls = 0
	if err := made(t, opened(t), one, 1).Generate(background, []int32{1, 2}, 5, 1, 2, 1, func(int32) error { calls++; return nil }); err != nil || calls != 5 {
		t.Errorf("a context of 1: %d tokens: %v", calls, err)
	}
	ill := made(t, opened(t), one, 1)
	ill.head.Value[0] = float32(math.NaN())
	if err := ill.Generate(background, []int32{1, 2}, 5, 1, 2, 1, func(int32) error { return nil }); !errors.Is(err, runtime.ErrNonFinite) || !strings.Contains(err.Error(), "token 0 is NaN") {
		t.Errorf("a head with a NaN: %v", err)
	}
}
