// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/setun-compute/setun/internal/floats"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/stn"
	"github.com/setun-compute/setun/runtime"
)

func open(t *testing.T) *runtime.Runtime {
	t.Helper()
	rt, err := runtime.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt
}

func gaussian(n int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 5))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(0.02 * r.NormFloat64())
	}
	return x
}

// TestBytesAreThoseOfAFile: what is measured on a whole tensor is what stn writes.
func TestBytesAreThoseOfAFile(t *testing.T) {
	rt, dir := open(t), t.TempDir()
	rapid.Check(t, func(rp *rapid.T) {
		rows, cols := rapid.IntRange(1, 70).Draw(rp, "rows"), rapid.IntRange(1, 700).Draw(rp, "cols")
		x := gaussian(rows*cols, rapid.Uint64().Draw(rp, "seed"))
		if rapid.Bool().Draw(rp, "halves") { // then each greatest magnitude is one
			for i, v := range x {
				x[i] = floats.Half(floats.ToHalf(v))
			}
		}
		o := Options{Rules: []quant.Rule{quant.AbsMean, quant.AbsMax, quant.LeastSquares, quant.Magnitude}, Groups: []int{0, 32, quant.PerRow}, HalfScales: rapid.Bool().Draw(rp, "half"),
			Coding: rapid.SampledFrom([]stn.Coding{0, stn.Int8, stn.Bits2, stn.Base3, stn.Four5, stn.Planes}).Draw(rp, "coding"), Sample: 1 << 30}
		m, err := Candidates(context.Background(), rt, "w", x, rows, cols, o)
		if err != nil {
			rp.Fatal(err)
		}
		if m.SampledRows != rows || m.Rows != rows || m.Values != int64(rows*cols) {
			rp.Fatalf("%+v", m)
		}
		for _, c := range m.Candidates {
			if c.Kind != Quantized {
				continue
			}
			q, err := rt.Quantize(nil, x, quant.Options{Levels: c.Levels, Rule: c.Rule, Group: c.Group, Cols: cols})
			if err != nil {
				rp.Fatal(err)
			}
			if o.HalfScales {
				RoundScales(q, x, c.Rule, false)
			}
			path := filepath.Join(dir, "x.stn")
			w, err := stn.Create(path, nil)
			if err != nil {
				rp.Fatal(err)
			}
			if err := w.Add("w", nil, q, c.Coding); err != nil {
				rp.Fatal(err)
			}
			if err := w.Close(); err != nil {
				rp.Fatal(err)
			}
			f, err := stn.Open(path)
			if err != nil {
				rp.Fatal(err)
			}
			info := f.Tensors()[0]
			back, err := f.Tensor("w", nil)
			if err != nil {
				rp.Fatal(err)
			}
			s, err := quant.Measure(back, x)
			f.Close()
			if err != nil || info.Coding != c.Coding || math.Abs(s.MSE*float64(len(x))-c.Error) > 1e-9*c.Error || s.Zeros != c.Zeros {
				rp.Fatalf("%v: the file has %+v, %+v (%v)", c, info, s, err)
			}
			if info.Bytes() != c.Bytes {
				rp.Fatalf("%v of %d×%d: %d bytes, in the file %d", c, rows, cols, c.Bytes, info.Bytes())
			}
		}
	})
}

// TestNarrowInt: no constant is beyond an int of 32 bits. Types of other packages are not looked at, so that those that they come from need not be built for such a system.
func TestNarrowInt(t *testing.T) {
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var list []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
	}
	c := types.Config{Sizes: types.SizesFor("gc", "386"), Error: func(err error) {
		if strings.Contains(err.Error(), "overflow") {
			t.Error(err)
		}
	}}
	c.Check("plan", set, list, nil) // its error is the first, mostly that of an import
}

// TestSample: a sample of the rows gives nearly the same, whether the rest is there or not.
func TestSample(t *testing.T) {
	rt := open(t)
	const rows, cols = 1000, 512
	x := gaussian(rows*cols, 9)
	all, err := Candidates(context.Background(), rt, "w", x, rows, cols, Options{})
	if err != nil {
		t.Fatal(err)
	}
	part, err := Candidates(context.Background(), rt, "w", x, rows, cols, Options{Sample: 100 * cols})
	if err != nil {
		t.Fatal(err)
	}
	var gathered []float32
	list := SampleRows(rows, cols, 100*cols)
	for _, r := range list {
		gathered = append(gathered, x[r*cols:][:cols]...)
	}
	same, err := Candidates(context.Background(), rt, "w", gathered, rows, cols, Options{Sample: 100 * cols})
	if err != nil || !cmp.Equal(part, same) {
		t.Errorf("rows that were gathered before give something else (%v)", err)
	}
	if all.SampledRows != rows || part.SampledRows != 100 || list[0] != 5 || list[99] != 995 || len(part.Candidates) != len(all.Candidates) {
		t.Fatalf("%d and %d rows, %v", all.SampledRows, part.SampledRows, list)
	}
	for i, c := range all.Candidates {
		p := part.Candidates[i]
		if math.Abs(float64(p.Bytes)/float64(c.Bytes)-1) > 0.01 || math.Abs(p.Error-c.Error) > 0.05*c.Error || p.String() != c.String() {
			t.Errorf("%v: %d bytes, error %v; of a sample %d, %v", c, c.Bytes, c.Error, p.Bytes, p.Error)
		}
	}
}

// TestGaussian: the figures of theory.
func TestGaussian(t *testing.T) {
	x := gaussian(1<<20, 1)
	m, err := Candidates(context.Background(), open(t), "w", x, 256, 4096, Options{Groups: []int{quant.PerRow}, HalfScales: true})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][2]float64{"ternary least-squares row rans": {0.1902, 1.5417}, "quinary least-squares row rans": {0.0822, 2.20}, "int8": {0, 8.0078}, "f16": {0, 16}, "f32": {0, 32}}
	for _, c := range m.Candidates {
		if w, ok := want[c.String()]; ok {
			delete(want, c.String())
			if e, b := c.Error/m.Energy, 8*float64(c.Bytes)/float64(m.Values); math.Abs(e-w[0]) > 0.001 || math.Abs(b-w[1]) > 0.01 {
				t.Errorf("%v: relative error %.4f, %.4f bits; %v expected", c, e, b, w)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

func TestRoundScales(t *testing.T) {
	rt := open(t)
	x := gaussian(6*300, 4)
	for i := range x[:300] {
		x[i] *= 1e-6 // a scale that is subnormal in binary16
	}
	for _, group := range []int{0, quant.PerRow, 64} {
		for _, l := range []quant.Levels{quant.Ternary, quant.Quinary, quant.Sparse} {
			for _, rule := range []quant.Rule{quant.LeastSquares, quant.Magnitude} {
				q, err := rt.Quantize(nil, x, quant.Options{Levels: l, Rule: rule, Cols: 300, Group: group})
				if err != nil {
					t.Fatal(err)
				}
				before := slices.Clone(q.Codes)
				wide := RoundScales(q, x, rule, false)
				small := 0
				for _, s := range q.Scales {
					if floats.Half(floats.ToHalf(s)) != s {
						small++
					}
				}
				if want := map[int]int{0: 0, quant.PerRow: 1, 64: 5}[group]; wide != small || wide != want {
					t.Errorf("%v, %v, group %d: %d scales are said to be wide, %d are, %d expected", l, rule, group, wide, small, want)
				}
				if err := q.Check(); err != nil {
					t.Error(err)
				}
				if (l == quant.Sparse || rule == quant.Magnitude) && !slices.Equal(before, q.Codes) {
					t.Errorf("%v, %v: codes changed", l, rule)
				}
				if RoundScales(q, x, rule, true) != 0 {
					t.Errorf("%v, %v, group %d: always, and not all", l, rule, group)
				}
				for i, c := range q.Codes {
					group := max(q.Group, 1)
					s := q.Scales[0]
					if q.Group > 0 {
						s = q.Scales[i/300*((300-1)/group+1)+i%300/group]
					}
					a := math.Abs(float64(x[i]))
					if l == quant.Ternary && rule == quant.LeastSquares && (c != 0) != (float32(a) > s/2) {
						t.Fatalf("code %d of %v is %d, scale %v", i, x[i], c, s)
					}
				}
			}
		}
	}
}

// TestCodes: those of the kernels for their own scales.
func TestCodes(t *testing.T) {
	rt := open(t)
	x := gaussian(10_000, 8)
	x[17], x[18] = 0, float32(math.Copysign(0, -1))
	for _, l := range []quant.Levels{quant.Ternary, quant.Quinary} {
		for _, rule := range []quant.Rule{quant.AbsMean, quant.AbsMax} {
			q, err := rt.Quantize(nil, x, quant.Options{Levels: l, Rule: rule})
			if err != nil {
				t.Fatal(err)
			}
			got := make([]int8, len(x))
			if Codes(got, x, q.Scales[0], l); !slices.Equal(got, q.Codes) {
				t.Errorf("%v by %v: other codes", l, rule)
			}
		}
	}
}

func TestCandidatesErrors(t *testing.T) {
	rt := open(t)
	x := gaussian(64, 2)
	bad := slices.Clone(x)
	bad[33] = float32(math.NaN())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		ctx        context.Context
		x          []float32
		rows, cols int
		o          Options
		want       error
	}{
		"no rows":     {context.Background(), x, 0, 8, Options{}, ErrArgument},
		"other shape": {context.Background(), x, 8, 9, Options{}, ErrArgument},
		"nothing":     {context.Background(), x, 8, 8, Options{Levels: []quant.Levels{}, Wide: []Kind{}}, ErrArgument},
		"no kind":     {context.Background(), x, 8, 8, Options{Wide: []Kind{9}}, ErrArgument},
		"NaN":         {context.Background(), bad, 8, 8, Options{}, runtime.ErrNonFinite},
		"ended":       {ctx, x, 8, 8, Options{}, context.Canceled},
	} {
		if m, err := Candidates(c.ctx, rt, "w", c.x, c.rows, c.cols, c.o); !errors.Is(err, c.want) || m != nil {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
}
