// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// normals are n values of a seed.
func normals(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 3))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// slopes are the central differences of f, the float64 value of a layer weighted by dy, at x.
func slopes(x []float32, f func([]float64) float64) []float64 {
	at, d := widen(x), make([]float64, len(x))
	for i, v := range at {
		const h = 1e-6
		at[i] = v + h
		up := f(at)
		at[i] = v - h
		d[i] = (up - f(at)) / (2 * h)
		at[i] = v
	}
	return d
}

func weighted(dy []float32, y []float64) float64 {
	s := 0.0
	for i, v := range y {
		s += float64(dy[i]) * v
	}
	return s
}

func near(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	size := 0.0
	for _, v := range want {
		size = max(size, math.Abs(v))
	}
	for i, v := range got {
		if !(math.Abs(float64(v)-want[i]) <= 1e-5*max(size, 1)) {
			t.Errorf("%s[%d] = %v, want %v", what, i, v, want[i])
		}
	}
}

// TestNormGradient takes rows beyond one chunk, and lengths with and without a rest of the lanes.
func TestNormGradient(t *testing.T) {
	for _, c := range []int{1, 3, 8, 21} {
		const rows = rowGrain + 5
		x, gain, dy := normals(1, rows*c), normals(2, c), normals(3, rows*c)
		y, scale := make([]float32, rows*c), make([]float32, rows)
		(&normForward{cols: c, x: x, gain: gain, y: y, scale: scale}).rows(0, rows)
		value := func(x, gain []float64) (all []float64) {
			for r := range rows {
				all = append(all, refNorm(x[r*c:][:c], gain)...)
			}
			return all
		}
		near(t, "norm", y, value(widen(x), widen(gain)))
		w := newWorkers()
		dx, parts, dgain := make([]float32, rows*c), make([]float32, 2*c), make([]float32, c)
		w.run(&normBackward{cols: c, x: x, gain: gain, scale: scale, dy: dy, dx: dx, parts: parts}, rows, rowGrain, c)
		sumParts(dgain, parts)
		near(t, "dx", dx, slopes(x, func(v []float64) float64 { return weighted(dy, value(v, widen(gain))) }))
		near(t, "dgain", dgain, slopes(gain, func(v []float64) float64 { return weighted(dy, value(widen(x), v)) }))

		w.run(&normForward{cols: c, x: x, y: y, scale: scale}, rows, rowGrain, c)
		w.run(&normBackward{cols: c, x: x, scale: scale, dy: dy, dx: dy}, rows, rowGrain, c) // in place
		near(t, "dx without a gain", dy, slopes(x, func(v []float64) float64 { return weighted(normals(3, rows*c), value(v, nil)) }))
		close(w.work)
	}
}

func TestSoftmaxGradient(t *testing.T) {
	const length, heads = 6, 3
	x, dy := normals(4, heads*length*length), normals(5, heads*length*length)
	value := func(x []float64) []float64 {
		y := make([]float64, len(x))
		for r := range heads * length {
			s := make([]float64, r%length+1)
			for i := range s {
				s[i] = 0.7 * x[r*length+i]
			}
			copy(y[r*length:], refSoftmax(s))
		}
		return y
	}
	p := append([]float32(nil), x...)
	(&softmaxForward{keys: length, length: length, scale: 0.7, x: p}).rows(0, heads*length)
	near(t, "softmax", p, value(widen(x)))
	d := append([]float32(nil), dy...)
	(&softmaxBackward{keys: length, scale: 0.7, p: p, d: d}).rows(0, heads*length)
	near(t, "dx", d, slopes(x, func(v []float64) float64 { return weighted(dy, value(v)) }))
}

func TestActivationGradient(t *testing.T) {
	for _, kind := range []string{ReLU2, SwiGLU} {
		const rows = 7
		c := Config{Hidden: 9, Activation: kind}
		x, dy := normals(6, rows*c.up()), normals(7, rows*c.Hidden)
		value := func(x []float64) (all []float64) {
			for r := range rows {
				all = append(all, refActivation(&c, x[r*c.up():][:c.up()])...)
			}
			return all
		}
		y, dx := make([]float32, rows*c.Hidden), make([]float32, rows*c.up())
		(&activation{width: c.Hidden, gated: kind == SwiGLU, x: x, y: y}).rows(0, rows)
		near(t, kind, y, value(widen(x)))
		(&activation{width: c.Hidden, gated: kind == SwiGLU, x: x, dy: dy, dx: dx}).rows(0, rows)
		near(t, "dx of "+kind, dx, slopes(x, func(v []float64) float64 { return weighted(dy, value(v)) }))
	}
	for x, want := range map[float32]float32{0: 0.5, 100: 1, -100: 0, float32(math.Inf(1)): 1, float32(math.Inf(-1)): 0} {
		if got := sigmoid(x); got != want {
			t.Errorf("sigmoid(%v) = %v, want %v", x, got, want)
		}
	}
	nan := float32(math.NaN())
	for _, v := range []float32{nan, -nan, float32(math.Copysign(float64(nan), -1))} {
		y := []float32{0}
		(&activation{width: 1, x: []float32{v}, y: y}).rows(0, 1)
		if y[0] == y[0] {
			t.Errorf("relu² hides a NaN: %v", y[0])
		}
	}
}

func TestCrossEntropyGradient(t *testing.T) {
	const rows, vocab = 5, 11
	x, targets := normals(8, rows*vocab), randomTokens(9, rows, vocab)
	x[0], x[1] = 90, -90 // powers must not overflow
	value := func(x []float64) float64 {
		s := 0.0
		for r, target := range targets {
			s -= math.Log(refSoftmax(x[r*vocab:][:vocab])[target])
		}
		return s / 3
	}
	losses := make([]float64, rows)
	(&crossEntropy{cols: vocab, x: append([]float32(nil), x...), targets: targets, losses: losses}).rows(0, rows)
	sum := 0.0
	for _, v := range losses {
		sum += v
	}
	if want := 3 * value(widen(x)); math.Abs(sum-want) > 1e-6*want {
		t.Errorf("loss %v, want %v", sum, want)
	}
	d := append([]float32(nil), x...)
	(&crossEntropy{cols: vocab, x: d, targets: targets, losses: losses, factor: 1. / 3}).rows(0, rows)
	near(t, "dx", d, slopes(x, value))
}

// TestGoldenLosses are losses of ten steps of plain gradient descent, to the last bit, on any machine: what they are is not to change unnoticed.
func TestGoldenLosses(t *testing.T) {
	rt := opened(t)
	for name, want := range map[string]string{"float32": "0x1.44e4833307c55p+01", "swiglu": "0x1.ba31d1da11027p+00", "int8": "0x1.16bde3e46175fp+01"} {
		c := Config{Vocab: 11, Context: 16, Layers: 2, Heads: 2, Width: 24, Hidden: 40}
		switch name {
		case "swiglu":
			c.Activation, c.TieEmbeddings = SwiGLU, true
		case "int8":
			c.Ternary, c.QuantizeActivations = true, true
		}
		m := made(t, rt, c, 40)
		x, y := randomTokens(41, 64, c.Vocab), randomTokens(42, 64, c.Vocab)
		var loss float64
		for range 10 {
			m.ZeroGrad()
			var err error
			if loss, err = m.Backward(background, x, y, 4, 16, 1); err != nil {
				t.Fatal(err)
			}
			for _, p := range m.Params() {
				for i, g := range p.Grad {
					p.Value[i] -= float32(0.5 * g)
				}
			}
			if err := m.Refresh(); err != nil {
				t.Fatal(err)
			}
		}
		if got := fmt.Sprintf("%x", loss); got != want {
			t.Errorf("%s: the tenth loss is %s, want %s", name, got, want)
		}
	}
}
