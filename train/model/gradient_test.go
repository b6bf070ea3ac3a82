// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
)

// opened returns a runtime without a profile; with native libraries where there are any.
func opened(t testing.TB, options ...runtime.Option) *runtime.Runtime {
	t.Helper()
	dir := os.Getenv("SETUN_TEST_LIBRARIES")
	if dir == "" {
		dir, _ = filepath.Abs("../../native/build/release")
	}
	rt, err := runtime.Open(append([]runtime.Option{runtime.WithProfile(""), runtime.WithoutSaving(), runtime.WithoutLearning(), runtime.WithLibraries(dir)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt
}

func made(t testing.TB, rt *runtime.Runtime, c Config, seed uint64) *Model {
	t.Helper()
	m, err := New(rt, c, seed)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func randomTokens(seed uint64, n, vocab int) []int32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]int32, n)
	for i := range x {
		x[i] = int32(r.IntN(vocab))
	}
	return x
}

// stir moves the weights far enough from their first values for every term of the gradient to count.
func stir(t testing.TB, m *Model, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 2))
	for _, p := range m.Params() {
		for i := range p.Value {
			p.Value[i] += float32(0.25 * r.NormFloat64())
		}
	}
	if err := m.Refresh(); err != nil {
		t.Fatal(err)
	}
}

func small() Config {
	return Config{Vocab: 7, Context: 6, Layers: 2, Heads: 2, Width: 8, Hidden: 12}
}

func configs() map[string]Config {
	all := map[string]Config{}
	for _, activation := range []string{ReLU2, SwiGLU} {
		for _, tied := range []bool{false, true} {
			c := small()
			c.Activation, c.TieEmbeddings = activation, tied
			name := fmt.Sprintf("%s/tied=%v", activation, tied)
			all[name] = c
			c.Ternary = true
			all[name+"/ternary"] = c
			c.QuantizeActivations, c.Group, c.Rule = true, quant.PerRow, quant.LeastSquares
			all[name+"/ternary/int8"] = c
		}
	}
	return all
}

// TestGradientsAgainstFiniteDifferences changes every weight that multiplies in a float64 network, up and down, and compares the slope of the loss with the gradient. For mixed weights and int8 inputs that is the straight-through
// gradient: the weight that multiplies changes, and what quantization adds to an input stays.
func TestGradientsAgainstFiniteDifferences(t *testing.T) {
	rt := opened(t)
	const batch, length = 2, 5
	for name, c := range configs() {
		mixes := []float32{0}
		if c.Ternary {
			mixes = []float32{0, 0.5, 1}
		}
		for _, mix := range mixes {
			t.Run(fmt.Sprintf("%s/mix=%v", name, mix), func(t *testing.T) {
				m := made(t, rt, c, 3)
				stir(t, m, 4)
				m.SetMix(mix)
				tokens, targets := randomTokens(5, batch*length, c.Vocab), randomTokens(6, batch*length, c.Vocab)
				loss, err := m.Backward(context.Background(), tokens, targets, batch, length, 0.5)
				if err != nil {
					t.Fatal(err)
				}
				if again, err := m.Loss(context.Background(), tokens, targets, batch, length); err != nil || again != loss {
					t.Errorf("Loss says %v, Backward %v: %v", again, loss, err)
				}
				r := newReference(m)
				r.record = true
				want := r.loss(tokens, targets, batch, length)
				r.record = false
				if math.Abs(loss-want) > 1e-5*want {
					t.Fatalf("loss %v, in float64 %v", loss, want)
				}
				for _, p := range m.Params() {
					w := r.w[p.Name]
					size, worst, at := 0.0, 0.0, 0
					for i := range w {
						if testing.Short() && i%7 != 0 {
							continue
						}
						const h = 1e-5
						was := w[i]
						w[i] = was + h
						up := r.loss(tokens, targets, batch, length)
						w[i] = was - h
						down := r.loss(tokens, targets, batch, length)
						w[i] = was
						slope := 0.5 * (up - down) / (2 * h)
						size = max(size, math.Abs(slope))
						if d := math.Abs(slope - float64(p.Grad[i])); !(d <= worst) {
							worst, at = d, i
						}
					}
					if !(worst <= 2e-5*size) {
						t.Errorf("%s[%d]: gradient %v is off by %.3g; the largest of the parameter is %.3g", p.Name, at, p.Grad[at], worst, size)
					}
				}
			})
		}
	}
}

// TestStraightThroughIsExact compares a ternary model with a float32 one whose weights are what multiplies: the gradients are the same bits.
func TestStraightThroughIsExact(t *testing.T) {
	rt := opened(t)
	for _, mix := range []float32{0, 0.3, 1} {
		c := small()
		c.Ternary = true
		m := made(t, rt, c, 7)
		stir(t, m, 8)
		m.SetMix(mix)
		c.Ternary = false
		f := made(t, rt, c, 7)
		m.fresh()
		for i, p := range m.Params() {
			copy(f.Params()[i].Value, p.Value)
		}
		for i, l := range m.linears {
			copy(f.linears[i].w.Value, l.weight)
			if mix == 1 {
				want, err := l.codes.Dequantize(nil)
				if err != nil {
					t.Fatal(err)
				}
				same(t, l.w.Name, l.weight, want)
			}
		}
		tokens, targets := randomTokens(9, 12, c.Vocab), randomTokens(10, 12, c.Vocab)
		one, err := m.Backward(context.Background(), tokens, targets, 2, 6, 1)
		two, err2 := f.Backward(context.Background(), tokens, targets, 2, 6, 1)
		if err != nil || err2 != nil || one != two {
			t.Fatalf("losses %v and %v: %v, %v", one, two, err, err2)
		}
		for i, p := range m.Params() {
			same(t, p.Name, p.Grad, f.Params()[i].Grad)
		}
	}
}

func same(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i, v := range got {
		if v != want[i] {
			t.Fatalf("%s[%d] = %v, want %v", what, i, v, want[i])
		}
	}
}
