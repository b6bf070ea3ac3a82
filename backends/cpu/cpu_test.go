// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/internal/lloyd"
	"github.com/setun-compute/setun/quant"
)

// slowScale is the scale table of docs/numerics.md, from sums over float64 lanes. It is exact for the small integers it is used on.
func slowScale(x []float32, levels quant.Levels, rule quant.Rule) (float32, func(float32) int8) {
	mag := func(v float32) float64 { return math.Abs(float64(v)) }
	var sum, top, sq float64
	for _, v := range x {
		sum += mag(v)
		sq += float64(v) * float64(v)
		top = max(top, mag(v))
	}
	code := func(s float32) func(float32) int8 {
		return func(v float32) int8 {
			m := int8(0)
			if levels == quant.Ternary {
				if mag(v) > float64(s/2) {
					m = 1
				}
			} else if mag(v) > float64(float32(0.75*float64(s))) {
				m = 2
			} else if mag(v) > float64(s/4) {
				m = 1
			}
			if v < 0 {
				m = -m
			}
			return m
		}
	}
	s := float32(sum / float64(len(x)))
	switch rule {
	case quant.AbsMean:
		return s, code(s)
	case quant.AbsMax:
		return float32(top), code(float32(top))
	}
	var num, den float64
	for range 16 {
		last := [2]float64{num, den}
		num, den = 0, 0
		for _, v := range x {
			q := math.Abs(float64(code(s)(v)))
			if levels == quant.Quinary {
				q /= 2
			}
			num += q * mag(v)
			den += q * q
		}
		if den == 0 || last == [2]float64{num, den} {
			break
		}
		s = float32(num / den)
	}
	c := code(s)
	if rule == quant.Magnitude && den > 0 {
		s = float32(math.Sqrt(sq / den))
	}
	return s, c
}

func TestQuantizeAgainstTheDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	cases := 0
	for _, cols := range []int{1, 2, 31, 32, 33, 64, 255, 256, 257, 319, 320, 321, 1279, 1280, 1281, 5000} {
		for _, rows := range []int{1, 3} {
			x := make([]float32, rows*cols)
			for i := range x {
				x[i] = float32(r.IntN(41) - 20)
			}
			for _, levels := range []quant.Levels{quant.Ternary, quant.Quinary} {
				for _, rule := range []quant.Rule{quant.AbsMean, quant.LeastSquares, quant.AbsMax, quant.Magnitude} {
					for _, group := range []int{0, quant.PerRow, 1, 7, 64} {
						for _, format := range []quant.Format{quant.Int8, quant.Bits2, quant.Base3} {
							if levels == quant.Quinary && format != quant.Int8 || group > cols {
								continue
							}
							cases++
							o := quant.Options{Levels: levels, Rule: rule, Format: format, Group: group, Cols: cols}.WithDefaults(len(x))
							var q quant.Tensor
							q.Resize(rows, o)
							if err := (Backend{}).Quantize(backends.Kernel{}, &backends.Quantize{X: x, Rule: rule, Dst: &q}); err != nil {
								t.Fatal(err)
							}
							if err := q.Check(); err != nil {
								t.Fatal(err)
							}
							checkTensor(t, &q, x, rule, fmt.Sprint(rows, cols, levels, rule, format, group))
						}
					}
				}
			}
		}
	}
	if cases < 1000 {
		t.Fatalf("only %d cases ran", cases)
	}
}

func checkTensor(t *testing.T, q *quant.Tensor, x []float32, rule quant.Rule, name string) {
	t.Helper()
	codes := make([]int8, q.Cols)
	g := q.Group
	if g == 0 {
		g = len(x) + 1 // never reached
	}
	wholeScale, wholeCode := slowScale(x, q.Levels, rule)
	for r := range q.Rows {
		q.UnpackRow(codes, r)
		row := x[r*q.Cols:][:q.Cols]
		for c := 0; c < q.Cols; c++ {
			s, code := wholeScale, wholeCode
			at := 0
			if q.Group > 0 {
				b := c - c%g
				s, code = slowScale(row[b:min(b+g, q.Cols)], q.Levels, rule)
				at = r*((q.Cols-1)/g+1) + c/g
			}
			end := q.Cols
			if q.Group > 0 {
				end = min(c-c%g+g, q.Cols)
			}
			if q.Scales[at] != s {
				t.Fatalf("%s: scale %d = %v, want %v", name, at, q.Scales[at], s)
			}
			for ; c < end; c++ {
				if codes[c] != code(row[c]) {
					t.Fatalf("%s: row %d, column %d: code %d, want %d for %v", name, r, c, codes[c], code(row[c]), row[c])
				}
			}
			c--
		}
	}
}

func TestStochasticRoundingIsUnbiased(t *testing.T) {
	x := make([]float32, 40_000)
	for i := range x {
		x[i] = 0.3
	}
	x[0] = 1
	for _, levels := range []quant.Levels{quant.Ternary, quant.Quinary} {
		o := quant.Options{Levels: levels, Rule: quant.Stochastic, Seed: 9}.WithDefaults(len(x))
		var q quant.Tensor
		q.Resize(1, o)
		if err := (Backend{}).Quantize(backends.Kernel{}, &backends.Quantize{X: x, Rule: o.Rule, Seed: o.Seed, Dst: &q}); err != nil {
			t.Fatal(err)
		}
		v, _ := q.Dequantize(nil)
		mean := 0.0
		for _, f := range v {
			mean += float64(f) / float64(len(v))
		}
		if math.Abs(mean-0.3) > 0.01 { // more than four standard deviations
			t.Errorf("%v: mean %v of values 0.3", levels, mean)
		}
	}
}

// TestMagnitudeIsPreserved, also where sixteen rounds of the least-squares rule are not enough: huge uniform values in five levels.
func TestMagnitudeIsPreserved(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for _, n := range []int{50, 5121, 100_003} {
		for _, levels := range []quant.Levels{quant.Ternary, quant.Quinary} {
			x := make([]float32, n)
			for i := range x {
				x[i] = 1e30 * (r.Float32()*2 - 1)
			}
			var q quant.Tensor
			q.Resize(1, quant.Options{Levels: levels, Rule: quant.Magnitude}.WithDefaults(n))
			if err := (Backend{}).Quantize(backends.Kernel{}, &backends.Quantize{X: x, Rule: quant.Magnitude, Dst: &q}); err != nil {
				t.Fatal(err)
			}
			s, err := quant.Measure(&q, x)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(s.Magnitude-1) > 1e-7 {
				t.Errorf("%v, %d values: ‖q‖/‖x‖ = %.9f", levels, n, s.Magnitude)
			}
		}
	}
}

func TestConstrainStaysInTheBall(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{1, 7, 64, 4096, 4097, 100_003} {
		for _, w := range []float64{0, 1e-40, 1e-3, 1, 1e30} {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(math.Ldexp(r.NormFloat64(), r.IntN(40)-20))
			}
			a := backends.Constrain{X: x, Dst: make([]float32, n), Radius: w}
			if err := (Backend{}).Constrain(backends.Kernel{}, &a); err != nil {
				t.Fatal(err)
			}
			if a.Norm <= w {
				if !cmp.Equal(a.Dst, x) {
					t.Errorf("n = %d, radius %v: values inside the ball changed", n, w)
				}
				continue
			}
			if got := math.Sqrt(canon.SumSquares(a.Dst)); got > w {
				t.Errorf("n = %d, radius %v: the norm afterwards is %v", n, w, got)
			}
		}
	}
}

// TestAssignIsTheChain holds the screened labels against the plain definition, on data that makes ties and near ties.
func TestAssignIsTheChain(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	draws := map[string]func() float32{
		"normal":    func() float32 { return float32(r.NormFloat64()) },
		"few":       func() float32 { return float32(r.IntN(3) - 1) },
		"subnormal": func() float32 { return float32(math.Ldexp(r.NormFloat64(), -75)) },
		"wide":      func() float32 { return float32(math.Ldexp(r.NormFloat64(), r.IntN(80)-40)) },
		"near":      func() float32 { return 1 + float32(r.IntN(3))*0x1p-23 },
	}
	for name, draw := range draws {
		for _, d := range []int{1, 2, 3, 8, 33, 100} {
			for _, k := range []int{1, 2, 7, 8, 9, 40} {
				const n = 60
				fill := func(n int) []float32 {
					v := make([]float32, n)
					for i := range v {
						v[i] = draw()
					}
					return v
				}
				s := lloyd.Step{Kind: lloyd.Assign, X: fill(n * d), N: n, D: d, K: k, Mean: fill(d), Centroids: fill(k * d), Bias: make([]float32, k),
					Labels: make([]int32, n), Scale: make([]float64, d), Sums: make([]int64, k*d), Counts: make([]int64, k)}
				for j := range k {
					s.Bias[j] = float32(-0.5 * canon.SumSquares(s.Centroids[j*d:][:d]))
				}
				for p := range d {
					s.Scale[p] = 0x1p-10
				}
				if err := Step(&s); err != nil {
					t.Fatal(err)
				}
				sums := make([]int64, k*d)
				for i := range n {
					label, best := 0, float32(math.Inf(-1))
					for j := range k {
						a := s.Bias[j]
						for p := range d {
							a = canon.FMA32(s.X[i*d+p]-s.Mean[p], s.Centroids[j*d+p], a)
						}
						if a > best {
							label, best = j, a
						}
					}
					if int(s.Labels[i]) != label {
						t.Fatalf("%s d = %d k = %d: row %d has label %d, want %d", name, d, k, i, s.Labels[i], label)
					}
					for p := range d {
						sums[label*d+p] += int64(math.RoundToEven(float64(s.X[i*d+p]-s.Mean[p]) * 0x1p-10))
					}
				}
				if diff := cmp.Diff(sums, s.Sums); diff != "" {
					t.Fatalf("%s d = %d k = %d: sums differ: %s", name, d, k, diff)
				}
			}
		}
	}
}

func TestDistanceIsTheChain(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for _, exp := range []int{0, -70, 30} {
		const n, d = 50, 37
		x, c := make([]float32, n*d), make([]float32, d)
		for i := range x {
			x[i] = float32(math.Ldexp(r.NormFloat64(), exp))
		}
		copy(c, x)
		s := lloyd.Step{Kind: lloyd.Distance, X: x, N: n, D: d, K: 1, Mean: make([]float32, d), Centroids: c, Distance: make([]float32, n)}
		if err := Step(&s); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			var want float32
			for p := range d {
				t := x[i*d+p] - c[p]
				want = canon.FMA32(t, t, want)
			}
			if s.Distance[i] != want {
				t.Errorf("exponent %d, row %d: %v, want %v", exp, i, s.Distance[i], want)
			}
		}
	}
}

func TestNonFiniteIsNamed(t *testing.T) {
	bad := float32(math.NaN())
	x := []float32{1, 2, bad, 4}
	o := quant.Options{}.WithDefaults(4)
	for _, rule := range []quant.Rule{quant.AbsMean, quant.LeastSquares, quant.AbsMax, quant.Stochastic} {
		var q quant.Tensor
		q.Resize(1, o)
		q.Codes[0], q.Scales[0] = 77, 77
		err := (Backend{}).Quantize(backends.Kernel{}, &backends.Quantize{X: x, Rule: rule, Dst: &q})
		if !errors.Is(err, backends.ErrNonFinite) || q.Codes[0] != 77 || q.Scales[0] != 77 {
			t.Errorf("%v: error %v, outputs %v %v", rule, err, q.Codes, q.Scales)
		}
	}
	dst := []float32{9, 9, 9, 9}
	if err := (Backend{}).Constrain(backends.Kernel{}, &backends.Constrain{X: x, Dst: dst, Radius: 1}); !errors.Is(err, backends.ErrNonFinite) || dst[0] != 9 {
		t.Errorf("constrain: %v, dst %v", err, dst)
	}
	err := (Backend{}).KMeans(context.Background(), backends.Kernel{}, &backends.KMeans{X: x, N: 2, D: 2, K: 1, MaxIter: 1})
	if want := "kmeans 2x2 k=1: row 1, column 0 = NaN: not a finite number"; err == nil || err.Error() != want {
		t.Errorf("kmeans: %v, want %s", err, want)
	}
}
