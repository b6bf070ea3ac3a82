// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// The ops of layers and optimisers against their formulas in float64.
func TestRowsAgainstTheFormulas(t *testing.T) {
	rt := open(t)
	const rows, cols, n = 40, 37, 40 * 37
	x, gain := ramp(n), ramp(cols)
	for i := range x {
		x[i] = float32(math.Sin(float64(i)) * 3)
	}
	near := func(what string, i int, got float32, want float64) {
		t.Helper()
		if !(math.Abs(float64(got)-want) <= 1e-5*max(1, math.Abs(want))) {
			t.Errorf("%s[%d] = %v, want %v", what, i, got, want)
		}
	}
	y, scale, sum := make([]float32, n), make([]float32, rows), make([]float32, n)
	if err := rt.RMSNorm(RMSNorm{X: x, Cols: cols, Delta: x, Sum: sum, Gain: gain, Out: y, Scale: scale, Epsilon: 1e-5}); err != nil {
		t.Fatal(err)
	}
	for r := range rows {
		square := 0.0
		for _, v := range x[r*cols:][:cols] {
			square += 4 * float64(v) * float64(v)
		}
		root := math.Sqrt(square/cols + 1e-5)
		near("scale", r, scale[r], 1/root)
		for j := range cols {
			near("norm", j, y[r*cols+j], 2*float64(x[r*cols+j])*float64(gain[j])/root)
			near("sum", j, sum[r*cols+j], 2*float64(x[r*cols+j]))
		}
	}
	p, stats := append([]float32(nil), x...), make([]float64, 2*rows)
	if err := rt.Softmax(Softmax{X: p, Cols: cols, Period: 10, Scale: 0.5, Factor: 2, Stats: stats}); err != nil {
		t.Fatal(err)
	}
	for r := range rows {
		seen, all, most := cols-10+1+r%10, 0.0, math.Inf(-1)
		for _, v := range x[r*cols:][:seen] {
			all, most = all+math.Exp(0.5*float64(v)), max(most, float64(v))
		}
		for j := range cols {
			want := 0.0
			if j < seen {
				want = 2 * math.Exp(0.5*float64(x[r*cols+j])) / all
			}
			near("softmax", j, p[r*cols+j], want)
		}
		near("greatest", r, float32(stats[2*r]), most)
		near("sum of powers", r, float32(stats[2*r+1]), all/math.Exp(0.5*most))
	}
	half := make([]float32, n/2)
	if err := rt.Activate(Activate{Function: SwiGLU, X: x, Cols: n / 2, Out: half}); err != nil {
		t.Fatal(err)
	}
	for i, v := range half {
		g := float64(x[i])
		near("swiglu", i, v, g/(1+math.Exp(-g))*float64(x[n/2+i]))
	}
	if err := rt.Activate(Activate{Function: ReLU2, X: x, Cols: cols, Out: y}); err != nil {
		t.Fatal(err)
	}
	for i, v := range y {
		near("relu²", i, v, math.Pow(max(0, float64(x[i])), 2))
	}
	m, v, delta := make([]float32, n), make([]float32, n), make([]float32, n)
	for step := range 3 { // a constant gradient: moments without their bias are it and its square
		u := Update{Method: AdamW, Value: y, Grad: x, M: m, V: v, Delta: delta, Rate: 0.1, Decay: 0.01, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Unbias1: 1 / (1 - math.Pow(0.9, float64(step+1))), Unbias2: 1 / (1 - math.Pow(0.99, float64(step+1)))}
		if err := rt.Update(u); err != nil {
			t.Fatal(err)
		}
	}
	for i, d := range delta {
		g := float64(x[i])
		near("adamw", i, d, -0.1*(g/(math.Abs(g)+1e-8)+0.01*float64(y[i])))
	}
}

// Arguments that do not fit are named, and nothing is written.
func TestRowsRefuse(t *testing.T) {
	rt := open(t)
	x, y, s, few := ramp(12), make([]float32, 12), make([]float32, 3), make([]float32, 2)
	for _, c := range []struct {
		err  error
		want error
		text string
	}{
		{rt.RMSNorm(RMSNorm{}), ErrArgument, "x is empty"},
		{rt.RMSNorm(RMSNorm{X: x, Cols: 5, Out: y, Scale: s}), ErrShape, "12 values are no rows of 5"},
		{rt.RMSNorm(RMSNorm{X: x, Cols: 4, Out: y, Scale: few}), ErrShape, "scale has 2 values, not 3"},
		{rt.RMSNorm(RMSNorm{X: x, Cols: 4, Out: x, Scale: s}), ErrAlias, "out overlaps x"},
		{rt.RMSNorm(RMSNorm{X: x, Cols: 4, Out: y, Scale: s, Delta: y}), ErrShape, "sum has 0 values, not 12"},
		{rt.RMSNorm(RMSNorm{X: x, Cols: 4, Out: y, Scale: s, Epsilon: math.NaN()}), ErrArgument, "epsilon"},
		{rt.RMSNorm(RMSNorm{X: x, Cols: 4, Out: y, Scale: s, Add: true}), ErrArgument, "there is no dy"},
		{rt.RMSNorm(RMSNorm{X: x, Cols: 4, Out: y, Scale: s, DY: x[:8]}), ErrShape, "dy has 8 values, not 12"},
		{rt.RMSNorm(RMSNorm{X: x, Cols: 4, Out: y, Scale: s, DY: y, Gain: few}), ErrShape, "gain has 2 values, not 4"},
		{rt.Softmax(Softmax{X: y, Cols: 4, Period: 5, Factor: 1}), ErrArgument, "period of 5"},
		{rt.Softmax(Softmax{X: y, Cols: 4, Scale: -1}), ErrArgument, "scale = -1"},
		{rt.Softmax(Softmax{X: y, Cols: 4, P: y}), ErrAlias, "x overlaps p"},
		{rt.Softmax(Softmax{X: y, Cols: 4, Stats: make([]float64, 3)}), ErrShape, "stats has 3 values"},
		{rt.Activate(Activate{X: x, Cols: 4, Out: y}), ErrArgument, "function = 0"},
		{rt.Activate(Activate{Function: SwiGLU, X: x, Cols: 4, Out: y}), ErrShape, "12 values are no rows of 8"},
		{rt.Activate(Activate{Function: ReLU2, X: x, Cols: 4, Out: x}), ErrAlias, "out overlaps x"},
		{rt.Update(Update{Value: x}), ErrArgument, "method = 0"},
		{rt.Update(Update{Method: Momentum, Value: x, Grad: y, M: s, Delta: y}), ErrShape, "m has 3 values, not 12"},
		{rt.Update(Update{Method: Momentum, Value: x, Grad: x, M: y, Delta: x}), ErrAlias, "delta overlaps value"},
		{rt.Update(Update{Method: AdamW, Rate: math.Inf(1), Value: x}), ErrArgument, "rate = +Inf"},
	} {
		if !errors.Is(c.err, c.want) || c.err == nil || !strings.Contains(c.err.Error(), c.text) {
			t.Errorf("%v: it should wrap %v and say %q", c.err, c.want, c.text)
		}
	}
	for i, v := range y {
		if v != 0 || x[i] != ramp(12)[i] {
			t.Fatalf("value %d was written", i)
		}
	}
}

func TestRowsAllocateNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	rt := open(t, WithoutLearning()) // which makes a router now and then
	x, y, s, g := ramp(1024), make([]float32, 1024), make([]float32, 16), ramp(64)
	z, dgain, parts, stats := make([]float32, 1024), make([]float32, 64), make([]float32, 64), make([]float64, 32)
	for name, call := range map[string]func() error{
		"rmsnorm": func() error { return rt.RMSNorm(RMSNorm{X: x, Cols: 64, Gain: g, Out: y, Scale: s}) },
		"gradient": func() error {
			return rt.RMSNorm(RMSNorm{X: x, Cols: 64, Gain: g, Out: y, Scale: s, DY: z, DGain: dgain, Parts: parts})
		},
		"softmax":  func() error { return rt.Softmax(Softmax{X: y, Cols: 64, Scale: 1, Factor: 1, Stats: stats}) },
		"activate": func() error { return rt.Activate(Activate{Function: ReLU2, X: x, Cols: 64, Out: y}) },
		"update": func() error {
			return rt.Update(Update{Method: Momentum, Value: x, Grad: x, M: y, Delta: z, Beta1: 0.9})
		},
	} {
		if n := testing.AllocsPerRun(200, func() {
			if err := call(); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("%s allocates %v times a call", name, n)
		}
	}
}
