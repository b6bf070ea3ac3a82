// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/setun-compute/setun/internal/npy"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/gguf"
	"github.com/setun-compute/setun/quant/plan"
	"github.com/setun-compute/setun/quant/stn"
	setun "github.com/setun-compute/setun/runtime"
)

// TestChunks: a tensor of several chunks becomes what it would become in one go.
func TestChunks(t *testing.T) {
	const rows, cols = 5000, 1024 // 5 Mi values in chunks of 4
	r := rand.New(rand.NewPCG(1, 1))
	x := make([]float32, rows*cols)
	for i := range x {
		x[i] = float32(0.1 * r.NormFloat64())
	}
	dir := t.TempDir()
	in := filepath.Join(dir, "w.npy")
	if err := npy.WriteFile(in, x, rows, cols); err != nil {
		t.Fatal(err)
	}
	rt, err := setun.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	for _, group := range []string{"row", "256"} {
		o := quant.Options{Rule: quant.LeastSquares, Cols: cols, Group: map[string]int{"row": quant.PerRow, "256": 256}[group]}
		want, err := rt.Quantize(nil, x, o)
		if err != nil {
			t.Fatal(err)
		}
		plan.RoundScales(want, x, o.Rule, false)
		out := filepath.Join(dir, "w.stn")
		done(t, in, out, "-group", group, "-force")
		f, err := stn.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.Tensor("w", nil)
		if err == nil {
			got, err = got.Convert(nil, quant.Int8)
		}
		if err != nil || !slices.Equal(got.Codes, want.Codes) || !slices.Equal(got.Scales, want.Scales) {
			t.Errorf("groups of a %s: other codes or scales (%v)", group, err)
		}
		f.Close()
		if group == "256" {
			out = filepath.Join(dir, "w.gguf")
			done(t, in, out)
			g, err := gguf.Open(out)
			if err != nil {
				t.Fatal(err)
			}
			var q quant.Tensor
			if err := g.Ternary(0, &q); err != nil || !slices.Equal(q.Codes, want.Codes) || !slices.Equal(q.Scales, want.Scales) {
				t.Errorf("TQ1_0 has other codes or scales (%v)", err)
			}
			g.Close()
		}
	}
}

// TestWholeScale: the scale of bins is nearly the one that the kernels find, for every rule. These stop after 16 rounds, which the bins do not, so that scales differ more than errors do.
func TestWholeScale(t *testing.T) {
	rt, err := setun.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	r := rand.New(rand.NewPCG(2, 2))
	for name, draw := range map[string]func() float64{"gaussian": r.NormFloat64, "exponential": r.ExpFloat64, "uniform": func() float64 { return 1 + r.Float64() },
		"ternary": func() float64 { return 0.25 * float64(r.IntN(3)-1) }, "zeros": func() float64 { return 0 }, "tiny": func() float64 { return 1e-40 * r.NormFloat64() }} {
		const rows, cols = 128, 512
		x := make([]float32, rows*cols)
		for i := range x {
			x[i] = float32(draw())
		}
		in := filepath.Join(t.TempDir(), "w.npy")
		if err := npy.WriteFile(in, x, rows, cols); err != nil {
			t.Fatal(err)
		}
		src, err := openSource(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		w := src.tensors()[0]
		e := &encoder{rt: rt, src: src, p: newProgress(nil, true)}
		for _, l := range []quant.Levels{quant.Ternary, quant.Quinary, quant.Sparse} {
			for _, rule := range []quant.Rule{quant.AbsMean, quant.LeastSquares, quant.AbsMax, quant.Magnitude} {
				if l == quant.Sparse && (rule == quant.AbsMean || rule == quant.AbsMax) {
					continue
				}
				want, err := rt.Quantize(nil, x, quant.Options{Levels: l, Rule: rule})
				if err != nil {
					t.Fatal(err)
				}
				s, err := quant.Measure(want, x)
				if err != nil {
					t.Fatal(err)
				}
				var all stats
				err = e.each(context.Background(), &w, choice{kind: plan.Quantized, levels: l, rule: rule}, func(_ int, q *quant.Tensor, x []float32) error {
					all.add(q, x)
					return q.Check()
				})
				if err != nil {
					t.Fatal(err)
				}
				if name == "tiny" { // of a few units of the least float32: neither is precise
					continue
				}
				if math.Abs(float64(e.q.Scales[0]/want.Scales[0])-1) > 3e-3 && want.Scales[0] != 0 || want.Scales[0] == 0 && e.q.Scales[0] != 0 || math.Abs(all.relative()-s.Relative) > 1e-4 {
					t.Errorf("%s, %v, %v: scale %v, error %v; the kernels have %v, %v", name, l, rule, e.q.Scales[0], all.relative(), want.Scales[0], s.Relative)
				}
			}
		}
		src.Close()
	}
}
