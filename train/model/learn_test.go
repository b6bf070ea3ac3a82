// SPDX-License-Identifier: Apache-2.0

package model

import (
	"math"
	"testing"
	"time"

	"github.com/setun-compute/setun/runtime"
)

// adam is a plain Adam, as tests need it: no decay, no warm-up.
type adam struct {
	rate float64
	t    float64
	m, v []float64
}

func (a *adam) step(m *Model) {
	if a.m == nil {
		a.m, a.v = make([]float64, len(m.grads)), make([]float64, len(m.grads))
	}
	a.t++
	at := 0
	for _, p := range m.Params() {
		for i, g := range widen(p.Grad) {
			a.m[at] = 0.9*a.m[at] + 0.1*g
			a.v[at] = 0.99*a.v[at] + 0.01*g*g
			p.Value[i] -= float32(a.rate * a.m[at] / (1 - math.Pow(0.9, a.t)) / (math.Sqrt(a.v[at]/(1-math.Pow(0.99, a.t))) + 1e-8))
			at++
		}
	}
}

// TestMemorises learns 64 random tokens by heart.
func TestMemorises(t *testing.T) {
	rt := opened(t)
	for _, kind := range []struct {
		name  string
		set   func(*Config)
		limit float64
	}{
		{"float32", func(*Config) {}, 0.02},
		{"swiglu, tied", func(c *Config) { c.Activation, c.TieEmbeddings = SwiGLU, true }, 0.02},
		{"ternary", func(c *Config) { c.Ternary = true }, 0.05},
		{"ternary, int8", func(c *Config) { c.Ternary, c.QuantizeActivations = true, true }, 0.05},
	} {
		if testing.Short() && kind.name != "ternary, int8" {
			continue
		}
		c := Config{Vocab: 16, Context: 32, Layers: 2, Heads: 2, Width: 32, Hidden: 64}
		kind.set(&c)
		m := made(t, rt, c, 30)
		tokens := randomTokens(31, 66, c.Vocab)
		x, y := append(append([]int32(nil), tokens[:32]...), tokens[33:65]...), append(append([]int32(nil), tokens[1:33]...), tokens[34:66]...)
		first, err := m.Loss(background, x, y, 2, 32)
		if err != nil || math.Abs(first-math.Log(16)) > 0.2 {
			t.Errorf("%s: the first loss is %v, ln 16 expected: %v", kind.name, first, err)
		}
		a := adam{rate: 4e-3}
		for range 300 {
			m.ZeroGrad()
			if _, err := m.Backward(background, x, y, 2, 32, 1); err != nil {
				t.Fatal(err)
			}
			a.step(m)
			if err := m.Refresh(); err != nil {
				t.Fatal(err)
			}
		}
		loss, err := m.Loss(background, x, y, 2, 32)
		if err != nil || !(loss < kind.limit) {
			t.Errorf("%s: loss %v after 300 steps, %v at first: %v", kind.name, loss, first, err)
		}
		t.Logf("%s: %.4f -> %.4f", kind.name, first, loss)
	}
}

// shakespeare is nanoGPT's configuration for CPUs.
func shakespeare() Config {
	return Config{Vocab: 65, Context: 64, Layers: 4, Heads: 4, Width: 128, Hidden: 512}
}

// BenchmarkStep is a step without an optimizer: Backward of 12 sequences of 64 tokens, and Refresh.
func BenchmarkStep(b *testing.B) {
	rt := opened(b)
	for _, kind := range []struct {
		name string
		set  func(*Config)
	}{
		{"float32", func(*Config) {}},
		{"swiglu", func(c *Config) { c.Activation, c.Hidden = SwiGLU, 344 }},
		{"ternary", func(c *Config) { c.Ternary = true }},
		{"int8", func(c *Config) { c.Ternary, c.QuantizeActivations = true, true }},
	} {
		b.Run(kind.name, func(b *testing.B) {
			c := shakespeare()
			kind.set(&c)
			m := made(b, rt, c, 1)
			x, y := randomTokens(1, 12*64, c.Vocab), randomTokens(2, 12*64, c.Vocab)
			step := func() {
				m.ZeroGrad()
				if _, err := m.Backward(background, x, y, 12, 64, 1); err != nil {
					b.Fatal(err)
				}
				if err := m.Refresh(); err != nil {
					b.Fatal(err)
				}
			}
			step()
			step()
			ops := kernelTime(rt)
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
			took := b.Elapsed()
			b.ReportMetric(float64(b.N)*float64(len(x))/took.Seconds(), "tokens/s")
			b.ReportMetric(100*float64(kernelTime(rt)-ops)/float64(took), "%ops")
			b.ReportMetric((took-(kernelTime(rt)-ops)).Seconds()*1000/float64(b.N), "other-ms/step")
		})
	}
}

// BenchmarkGenerate draws a context of tokens, one after another.
func BenchmarkGenerate(b *testing.B) {
	rt := opened(b)
	for _, int8s := range []bool{false, true} {
		c := shakespeare()
		c.Ternary, c.QuantizeActivations = int8s, int8s
		name := "float32"
		if int8s {
			name = "int8"
		}
		b.Run(name, func(b *testing.B) {
			m := made(b, rt, c, 1)
			begin := time.Now()
			for b.Loop() {
				if err := m.Generate(background, []int32{1}, 63, 1, 10, 1, func(int32) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*63/time.Since(begin).Seconds(), "tokens/s")
		})
	}
}

// kernelTime is how long a runtime's kernels have run.
func kernelTime(rt *runtime.Runtime) (sum time.Duration) {
	for _, m := range rt.Metrics() {
		sum += m.Time
	}
	return sum
}
