// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

func open(t testing.TB) *setun.Runtime {
	t.Helper()
	rt, err := setun.Open(setun.WithoutNative(), setun.WithProfile("none"), setun.WithoutLearning())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt
}

// model makes tensors of some shapes: the first two are ternary, the last one has no decay.
func model(seed uint64) []Tensor {
	r := rand.New(rand.NewPCG(seed, 1))
	shapes := [][2]int{{24, 20}, {9, 33}, {17, 5}, {1, 40}}
	tensors := make([]Tensor, len(shapes))
	for i, s := range shapes {
		n := s[0] * s[1]
		t := Tensor{Name: fmt.Sprint("t", i), Rows: s[0], Cols: s[1], Value: make([]float32, n), Grad: make([]float32, n), Ternary: i < 2, Decay: i < 3}
		for j := range t.Value {
			t.Value[j] = float32(r.NormFloat64()) * 0.05
		}
		tensors[i] = t
	}
	return tensors
}

// gradients fills in those of a step: they depend on its number and on the values, as real ones do.
func gradients(tensors []Tensor, step int) {
	r := rand.New(rand.NewPCG(77, uint64(step)))
	for _, t := range tensors {
		for j := range t.Grad {
			t.Grad[j] = float32(0.3*float64(t.Value[j]) + 0.1*r.NormFloat64())
		}
	}
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// exactSquare returns Σ x² without rounding.
func exactSquare(parts ...[]float32) *big.Float {
	sum := new(big.Float).SetPrec(2000)
	for _, x := range parts {
		for _, v := range x {
			b := new(big.Float).SetPrec(2000).SetFloat64(float64(v))
			sum.Add(sum, b.Mul(b, b))
		}
	}
	return sum
}

func exactly(w float64) *big.Float {
	b := new(big.Float).SetPrec(2000).SetFloat64(w)
	return b.Mul(b, b)
}

// TestAgainstFloat64 follows both methods for some steps beside a plain float64 implementation.
func TestAgainstFloat64(t *testing.T) {
	for _, o := range []Options{{}, {Beta1: 0.8, Beta2: 0.95, Eps: 1e-6}, {Method: SGD, Momentum: 0.9}, {Method: SGD}} {
		tensors := model(3)
		opt := must[*Optimizer](t)(New(open(t), tensors, o))
		type ref struct{ x, m, v []float64 }
		refs := make([]ref, len(tensors))
		for i, p := range tensors {
			refs[i] = ref{make([]float64, len(p.Value)), make([]float64, len(p.Value)), make([]float64, len(p.Value))}
			for j, v := range p.Value {
				refs[i].x[j] = float64(v)
			}
		}
		b1, b2, eps := cmpOr(o.Beta1, 0.9), cmpOr(o.Beta2, 0.99), cmpOr(o.Eps, 1e-8)
		for step := range 20 {
			gradients(tensors, step)
			rate, decay := 1e-2/float64(step+1), 0.1
			for i, p := range tensors {
				for j, g32 := range p.Grad {
					g, r := float64(g32), refs[i]
					d := decay
					if !p.Decay {
						d = 0
					}
					if o.Method == SGD {
						r.m[j] = o.Momentum*r.m[j] + g
						r.x[j] -= rate * (r.m[j] + d*r.x[j])
						continue
					}
					r.m[j] = b1*r.m[j] + (1-b1)*g
					r.v[j] = b2*r.v[j] + (1-b2)*g*g
					m, v := r.m[j]/(1-math.Pow(b1, float64(step+1))), r.v[j]/(1-math.Pow(b2, float64(step+1)))
					r.x[j] -= rate * (m/(math.Sqrt(v)+eps) + d*r.x[j])
				}
			}
			must[Report](t)(opt.Step(t.Context(), Control{Rate: rate, Decay: decay}))
		}
		for i, p := range tensors {
			for j, v := range p.Value {
				if math.Abs(float64(v)-refs[i].x[j]) > 1e-6 {
					t.Fatalf("%+v: %s[%d] = %v, in float64 %v", o, p.Name, j, v, refs[i].x[j])
				}
			}
		}
	}
}

func cmpOr(v, d float64) float64 {
	if v != 0 {
		return v
	}
	return d
}

// TestStepsStayInTheBall compares with exact arithmetic: the whole step, and each group, for every way to share a radius; and finds what is inside untouched.
func TestStepsStayInTheBall(t *testing.T) {
	rt := open(t)
	for _, share := range []Share{BySize, ByNorm} {
		for _, groups := range []Grouping{ByTensor, ByRow, ByKMeans} {
			for _, w := range []float64{1e-6, 0.01, 0.0731, 0.3, 10} {
				tensors := model(5)
				clear(tensors[3].Value) // a tensor of norm 0 must be able to move
				o := must[*Optimizer](t)(New(rt, tensors, Options{Share: share, Groups: groups, K: 3, Every: 2, Factors: Relative, Clip: 0.7}))
				for step := range 4 {
					gradients(tensors, step)
					r := must[Report](t)(o.Step(t.Context(), Control{Rate: 0.01, Decay: 0.1, Radius: w}))
					var all, grads [][]float32
					for i := range o.parts {
						p := &o.parts[i]
						all, grads = append(all, p.delta), append(grads, p.Grad)
						for g, radius := range p.radii {
							var d [][]float32
							for i, to := p.places(g); i < to; i++ {
								d = append(d, p.delta[p.row(i)*p.Cols:][:p.Cols])
							}
							if exactSquare(d...).Cmp(exactly(radius)) > 0 {
								t.Fatalf("%v %v w=%v: group %d of %s is beyond %v", share, groups, w, g, p.Name, radius)
							}
						}
					}
					if exactSquare(all...).Cmp(exactly(w)) > 0 {
						t.Fatalf("%v %v: the step is beyond %v", share, groups, w)
					}
					if exactSquare(grads...).Cmp(exactly(0.7)) > 0 {
						t.Fatal("the gradient is beyond the clip")
					}
					if r.Norm > w || r.Norm > r.Update || w == 10 && (r.Projected != 0 || r.Norm != r.Update) || w == 0.01 && r.Projected == 0 {
						t.Fatalf("%v %v w=%v: %+v", share, groups, w, r)
					}
					if w < 0.01 && r.Norm < 0.9*w {
						t.Errorf("%v %v w=%v: the step has %v of it", share, groups, w, r.Norm)
					}
					if slices.Max(tensors[3].Value) == 0 {
						t.Fatal("the tensor of norm 0 does not move")
					}
				}
			}
		}
	}
}

// TestInsideNothingIsWritten: a wide radius gives the bits of none.
func TestInsideNothingIsWritten(t *testing.T) {
	rt := open(t)
	run := func(w float64) []Tensor {
		tensors := model(8)
		o := must[*Optimizer](t)(New(rt, tensors, Options{}))
		for step := range 5 {
			gradients(tensors, step)
			must[Report](t)(o.Step(t.Context(), Control{Rate: 0.01, Radius: w}))
		}
		return tensors
	}
	if d := cmp.Diff(run(0), run(1e6)); d != "" {
		t.Error(d)
	}
}

// everything turns on all there is.
var everything = Options{Clip: 1, Share: ByNorm, Groups: ByKMeans, Every: 3, Factors: Relative, Seed: 9, Weights: quant.Options{Rule: quant.LeastSquares, Group: quant.PerRow}, CountFlips: true}

func control(step int) Control {
	return Control{Rate: 5e-3, Decay: 0.1, Radius: 0.2 + 0.01*float64(step), FlipShare: 0.02}
}

func steps(t testing.TB, o *Optimizer, tensors []Tensor, from, to int) (reports []Report) {
	for step := from; step < to; step++ {
		gradients(tensors, step)
		reports = append(reports, must[Report](t)(o.Step(context.Background(), control(step))))
	}
	return reports
}

// TestResume: ten steps are five steps, a state through JSON, and five steps.
func TestResume(t *testing.T) {
	rt := open(t)
	for _, opts := range []Options{everything, {Method: SGD, Momentum: 0.9, CountFlips: true, Groups: ByRow, FlipFrom: AnyDirection, FlipFloor: 0.1}, {CountFlips: true}, {Clip: 1, Groups: ByKMeans, K: 4, Every: 3, Factors: Relative, CountFlips: true}} {
		straight := model(1)
		a := must[*Optimizer](t)(New(rt, straight, opts))
		want := steps(t, a, straight, 0, 10)

		first := model(1)
		b := must[*Optimizer](t)(New(rt, first, opts))
		got := steps(t, b, first, 0, 5)
		saved := must[[]byte](t)(json.Marshal(b.State(nil)))

		second := model(2)
		for i := range second {
			copy(second[i].Value, first[i].Value)
		}
		c := must[*Optimizer](t)(New(rt, second, opts))
		var s State
		if err := json.Unmarshal(saved, &s); err != nil {
			t.Fatal(err)
		}
		if err := c.Load(&s); err != nil {
			t.Fatal(err)
		}
		got = append(got, steps(t, c, second, 5, 10)...)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("reports differ: %s", d)
		}
		for i := range straight {
			if d := cmp.Diff(straight[i].Value, second[i].Value); d != "" {
				t.Errorf("%s differs: %s", straight[i].Name, d)
			}
		}
		if d := cmp.Diff(a.State(nil), c.State(&s)); d != "" {
			t.Errorf("states differ: %s", d)
		}
	}
}

// TestSameBitsForAnyNumberOfThreads also makes the second clustering from a state that was used before.
func TestSameBitsForAnyNumberOfThreads(t *testing.T) {
	rt := open(t)
	var want *State
	for _, procs := range []int{1, 2, 4} {
		old := runtime.GOMAXPROCS(procs)
		tensors := model(4)
		o := must[*Optimizer](t)(New(rt, tensors, everything))
		steps(t, o, tensors, 0, 8)
		runtime.GOMAXPROCS(old)
		if got := o.State(nil); want == nil {
			want = got
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%d threads: %s", procs, d)
		}
	}
}

func TestStepAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget")
	}
	rt := open(t)
	for _, opts := range []Options{{}, {Groups: ByKMeans, K: 4, CountFlips: true, Clip: 0.01, Share: ByNorm}, {Groups: ByRow, CountFlips: true, FlipFrom: AnyDirection}} {
		tensors := model(6)
		o := must[*Optimizer](t)(New(rt, tensors, opts))
		gradients(tensors, 0)
		c := Control{Rate: 0.01, Decay: 0.1, Radius: 0.05}
		if opts.CountFlips {
			c.FlipShare = 0.01
		}
		step := func() {
			if _, err := o.Step(context.Background(), c); err != nil {
				t.Fatal(err)
			}
		}
		step()
		if n := testing.AllocsPerRun(50, step); n > 0 {
			t.Errorf("%+v: %v allocations a step", opts, n)
		}
	}
}

// TestReportOfAStep holds the report's numbers against plain sums over the values before and after.
func TestReportOfAStep(t *testing.T) {
	rt := open(t)
	tensors := model(11)
	opts := everything
	opts.Weights.Group = 0
	o := must[*Optimizer](t)(New(rt, tensors, opts))
	var last [][]float64
	for step := range 6 {
		gradients(tensors, step)
		var before [][]float32
		grads, norm := [][]float32{}, 0.0
		codes := [][]int8{}
		for _, p := range tensors {
			before, grads = append(before, slices.Clone(p.Value)), append(grads, slices.Clone(p.Grad))
			for _, g := range p.Grad {
				norm += float64(g) * float64(g)
			}
			if p.Ternary {
				codes = append(codes, must[*quant.Tensor](t)(rt.Quantize(nil, p.Value, quant.Options{Rule: quant.LeastSquares, Cols: p.Cols})).Codes)
			}
		}
		r := must[Report](t)(o.Step(t.Context(), control(step)))
		predicted, cosine, length, flips, square := 0.0, 0.0, 0.0, int64(0), 0.0
		this := [][]float64{}
		for i, p := range tensors {
			d := make([]float64, len(p.Value))
			for j := range d {
				d[j] = float64(p.Value[j]) - float64(before[i][j])
				predicted -= d[j] * float64(grads[i][j])
				length += d[j] * d[j]
				if last != nil {
					cosine += last[i][j] * float64(grads[i][j])
					square += last[i][j] * last[i][j]
				}
			}
			this = append(this, d)
			if p.Ternary {
				q := must[*quant.Tensor](t)(rt.Quantize(nil, p.Value, quant.Options{Rule: quant.LeastSquares, Cols: p.Cols}))
				for j := range q.Codes {
					if q.Codes[j] != codes[i][j] {
						flips++
					}
				}
			}
		}
		if last != nil {
			cosine /= math.Sqrt(square) * math.Sqrt(norm)
		}
		near := func(what string, got, want float64) {
			t.Helper()
			if math.Abs(got-want) > 1e-5*(math.Abs(want)+1e-3) {
				t.Errorf("step %d: %s = %v, want %v", step, what, got, want)
			}
		}
		near("gradient norm", r.GradNorm, math.Sqrt(norm))
		near("predicted", r.Predicted, predicted)
		near("cosine", r.Cosine, cosine)
		near("norm", r.Norm, math.Sqrt(length))
		if r.Flips != flips || r.Codes != 24*20+9*33 || !r.Clipped || r.Step != step+1 {
			t.Errorf("%+v, %d flips", r, flips)
		}
		last = this
	}
}

func TestRandomShapes(t *testing.T) {
	rt, r := open(t), rand.New(rand.NewPCG(20, 26))
	for round := range 60 {
		tensors := make([]Tensor, 1+r.IntN(4))
		for i := range tensors {
			rows, cols := 1+r.IntN(40), 1+r.IntN(30)
			p := Tensor{Name: fmt.Sprint(i), Rows: rows, Cols: cols, Value: make([]float32, rows*cols), Grad: make([]float32, rows*cols), Ternary: r.IntN(2) == 0, Decay: r.IntN(2) == 0}
			for j := range p.Value {
				p.Value[j] = float32(r.NormFloat64())
			}
			tensors[i] = p
		}
		opts := Options{Method: Method(r.IntN(2)), Momentum: 0.5, Clip: float64(r.IntN(3)), Share: Share(r.IntN(2)), Groups: Grouping(r.IntN(3)), K: r.IntN(5), Every: r.IntN(3),
			Factors: Factors(r.IntN(2)), MinRows: 1, FlipFrom: FlipRule(r.IntN(2)), CountFlips: true, Weights: quant.Options{Group: r.IntN(2) - 1}}
		o := must[*Optimizer](t)(New(rt, tensors, opts))
		for step := range 4 {
			gradients(tensors, step)
			w, share := r.Float64(), 0.2*r.Float64()
			rep, err := o.Step(t.Context(), Control{Rate: 0.1 * r.Float64(), Decay: 0.1, Radius: w, FlipShare: share})
			if err != nil {
				t.Fatalf("round %d, %+v: %v", round, opts, err)
			}
			var all [][]float32
			allowed := int64(0)
			for i := range o.parts {
				p := &o.parts[i]
				all = append(all, p.delta)
				for g := range p.radii {
					if p.Ternary {
						allowed += max(1, int64(share*float64(p.span[g+1]-p.span[g])))
					}
				}
			}
			if exactSquare(all...).Cmp(exactly(w)) > 0 || rep.Expected > allowed {
				t.Fatalf("round %d, step %d, %+v: %+v, radius %v, %d flips allowed", round, step, opts, rep, w, allowed)
			}
		}
	}
}
