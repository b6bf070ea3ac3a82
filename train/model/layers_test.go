// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/setun-compute/setun/runtime"
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

// do fails the test for an error of an op.
func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNormGradient takes rows beyond one block, and lengths with and without a rest of the lanes.
func TestNormGradient(t *testing.T) {
	rt := opened(t)
	for _, c := range []int{1, 3, 8, 21} {
		const rows = runtime.NormBlock + 5
		x, gain, dy := normals(1, rows*c), normals(2, c), normals(3, rows*c)
		y, scale := make([]float32, rows*c), make([]float32, rows)
		do(t, rt.RMSNorm(runtime.RMSNorm{X: x, Cols: c, Gain: gain, Out: y, Scale: scale, Epsilon: normEpsilon}))
		value := func(x, gain []float64) (all []float64) {
			for r := range rows {
				all = append(all, refNorm(x[r*c:][:c], gain)...)
			}
			return all
		}
		near(t, "norm", y, value(widen(x), widen(gain)))
		dx, parts, dgain := make([]float32, rows*c), make([]float32, 2*c), make([]float32, c)
		do(t, rt.RMSNorm(runtime.RMSNorm{X: x, Cols: c, Gain: gain, Scale: scale, DY: dy, Out: dx, Add: true, DGain: dgain, Parts: parts}))
		near(t, "dx", dx, slopes(x, func(v []float64) float64 { return weighted(dy, value(v, widen(gain))) }))
		near(t, "dgain", dgain, slopes(gain, func(v []float64) float64 { return weighted(dy, value(widen(x), v)) }))

		do(t, rt.RMSNorm(runtime.RMSNorm{X: x, Cols: c, Out: y, Scale: scale, Epsilon: normEpsilon}))
		do(t, rt.RMSNorm(runtime.RMSNorm{X: x, Cols: c, Scale: scale, DY: dy, Out: dy})) // in place
		near(t, "dx without a gain", dy, slopes(x, func(v []float64) float64 { return weighted(normals(3, rows*c), value(v, nil)) }))
	}
}

func TestSoftmaxGradient(t *testing.T) {
	rt := opened(t)
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
	do(t, rt.Softmax(runtime.Softmax{X: p, Cols: length, Period: length, Scale: 0.7, Factor: 1}))
	near(t, "softmax", p, value(widen(x)))
	d := append([]float32(nil), dy...)
	do(t, rt.Softmax(runtime.Softmax{X: d, P: p, Cols: length, Period: length, Scale: 0.7}))
	near(t, "dx", d, slopes(x, func(v []float64) float64 { return weighted(dy, value(v)) }))
}

func TestActivationGradient(t *testing.T) {
	rt := opened(t)
	for kind, f := range map[string]runtime.Function{ReLU2: runtime.ReLU2, SwiGLU: runtime.SwiGLU} {
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
		do(t, rt.Activate(runtime.Activate{Function: f, X: x, Cols: c.Hidden, Out: y}))
		near(t, kind, y, value(widen(x)))
		do(t, rt.Activate(runtime.Activate{Function: f, X: x, Cols: c.Hidden, DY: dy, Out: dx}))
		near(t, "dx of "+kind, dx, slopes(x, func(v []float64) float64 { return weighted(dy, value(v)) }))
	}
	nan := float32(math.NaN())
	for _, v := range []float32{nan, -nan, float32(math.Copysign(float64(nan), -1))} {
		y := []float32{0}
		do(t, rt.Activate(runtime.Activate{Function: runtime.ReLU2, X: []float32{v}, Cols: 1, Out: y}))
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
	m := &Model{rt: opened(t), c: Config{Vocab: vocab}}
	loss, err := m.crossEntropy(append([]float32(nil), x...), targets, 0)
	if want := 3 * value(widen(x)) / rows; err != nil || math.Abs(loss-want) > 1e-6*want {
		t.Errorf("loss %v, want %v; %v", loss, want, err)
	}
	d := append([]float32(nil), x...)
	if again, err := m.crossEntropy(d, targets, 1./3); again != loss || err != nil {
		t.Errorf("loss %v with a gradient, %v without; %v", again, loss, err)
	}
	near(t, "dx", d, slopes(x, value))
}

// TestGoldenLosses are losses of ten steps of plain gradient descent, to the last bit, on any machine: what they are is not to change unnoticed.
func TestGoldenLosses(t *testing.T) {
	rt := opened(t)
	for name, want := range map[string]string{"float32": "0x1.44e4830ffa9d9p+01", "swiglu": "0x1.ba31d1ef071e8p+00", "int8": "0x1.28bcb51694bdcp+01"} {
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
