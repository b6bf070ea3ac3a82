// SPDX-License-Identifier: Apache-2.0

package model

import (
	"errors"
	"math"
	"testing"
)

// stairs are λ of several kinds: latent, between, ternary.
func stairs(n int) []float32 {
	all := make([]float32, n)
	for i := range all {
		all[i] = []float32{1, 0, 0.5, 0.25, 1}[i%5]
	}
	return all
}

// TestMixesAreOneByOne compares SetMixes with what SetMix makes of each layer alone, and a pass in the middle of a schedule with the float64 network.
func TestMixesAreOneByOne(t *testing.T) {
	rt := opened(t)
	for name, c := range configs() {
		if !c.Ternary {
			continue
		}
		m, alone := made(t, rt, c, 41), made(t, rt, c, 41)
		stir(t, m, 42)
		stir(t, alone, 42)
		lambdas := stairs(len(m.linears))
		if err := m.SetMixes(lambdas); err != nil {
			t.Fatal(err)
		}
		tokens, targets := randomTokens(43, 10, c.Vocab), randomTokens(44, 10, c.Vocab)
		got, err := m.Backward(background, tokens, targets, 2, 5, 1)
		if err != nil {
			t.Fatal(err)
		}
		r := newReference(m)
		r.record = true
		if want := r.loss(tokens, targets, 2, 5); math.Abs(got-want) > 1e-5*want {
			t.Errorf("%s: loss %v, in float64 %v", name, got, want)
		}
		for i, l := range m.linears {
			alone.SetMix(lambdas[i])
			alone.fresh()
			same(t, l.w.Name, l.weight, alone.linears[i].weight)
		}
		m.SetMix(1)
		alone.SetMix(1)
		ternary, err := m.Loss(background, tokens, targets, 2, 5)
		if want, err2 := alone.Loss(background, tokens, targets, 2, 5); err != nil || err2 != nil || ternary != want {
			t.Errorf("%s: back at 1: loss %v, want %v: %v, %v", name, ternary, want, err, err2)
		}
	}
}

func TestMixesRefused(t *testing.T) {
	rt := opened(t)
	c := small()
	c.Ternary = true
	m := made(t, rt, c, 1)
	for _, n := range []int{0, 7, 9} {
		if err := m.SetMixes(make([]float32, n)); !errors.Is(err, ErrArgument) || m.linears[0].mix != 1 {
			t.Errorf("%d λ: %v, λ = %v", n, err, m.linears[0].mix)
		}
	}
	if err := m.SetMixes([]float32{float32(math.NaN()), -1, 2, float32(math.Inf(1)), 0, 0, 0, 0.5}); err != nil || m.linears[0].mix != 0 || m.linears[1].mix != 0 || m.linears[2].mix != 1 || m.linears[3].mix != 1 || m.linears[7].mix != 0.5 {
		t.Errorf("λ out of range: %v", err)
	}
	c.Ternary = false
	if f := made(t, rt, c, 1); f.SetMixes(stairs(8)) != nil || f.linears[0].mix != 0 {
		t.Error("a float32 model has λ")
	}
}

// TestMixesAllocateNothing moves every layer of a schedule on in each step.
func TestMixesAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools")
	}
	rt := opened(t)
	c := small()
	c.Ternary, c.QuantizeActivations, c.Context, c.Width, c.Hidden = true, true, 64, 32, 128
	m := made(t, rt, c, 1)
	tokens, lambdas := randomTokens(1, 4*64, c.Vocab), stairs(len(m.linears))
	step := func() {
		lambdas[0], lambdas[7] = lambdas[7], lambdas[0]
		for i := range lambdas[1:7] {
			lambdas[1+i] = 1 - lambdas[1+i]
		}
		if err := m.SetMixes(lambdas); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Backward(background, tokens, tokens, 4, 64, 1); err != nil {
			t.Fatal(err)
		}
		if err := m.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	step()
	step()
	step()
	if n := testing.AllocsPerRun(10, step); n != 0 {
		t.Errorf("%v allocations a step", n)
	}
}
