// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

// randomShape draws a shape that ParseShape or a call could make, over many octaves.
func randomShape(r *rand.Rand, op backends.Op) Shape {
	n := int(math.Exp2(4 + 22*r.Float64()))
	switch op {
	case backends.OpKMeans:
		return KMeans(n, 1+r.IntN(256), 1+r.IntN(256))
	case backends.OpClusters:
		return Clusters(n, 1+r.IntN(n))
	case backends.OpMatMul:
		return MatMul(1+r.IntN(1024), n>>12+1+r.IntN(64), 1+r.IntN(1024), 1+r.IntN(3))
	case backends.OpQuantize, backends.OpStep:
		o := quant.Options{Format: quant.Format(1 + r.IntN(3))}
		if r.IntN(2) == 0 {
			o.Group = 16 << r.IntN(6)
		}
		if op == backends.OpStep {
			return Step(n, o.WithDefaults(n))
		}
		return Quantize(n, o.WithDefaults(n))
	}
	return Vector(op, n)
}

// fiveArms is a calibrated router with five arms for each op.
func fiveArms(t testing.TB) *Router {
	r := rand.New(rand.NewPCG(6, 6))
	arms, profile := map[backends.Op][]Arm{}, &Profile{}
	for _, op := range backends.Ops() {
		arms[op] = []Arm{{Backend: "cpu", Kernel: "go"}, {Backend: "simd_c", Kernel: "sse42"}, {Backend: "simd_c", Kernel: "avx2"}, {Backend: "simd_c", Kernel: "avx512"}, {Backend: "cpp", Kernel: "threads", Threads: 2}}
		for _, a := range arms[op] {
			profile.Set(op, a, Fit(Prior(op, a), plantedShapes(r, op, Prior(op, a), 0.3, 100)))
		}
	}
	router, err := NewRouter(arms, profile, Policy{})
	if err != nil {
		t.Fatal(err)
	}
	return router
}

func TestNoOpAllocates(t *testing.T) {
	router, r := fiveArms(t), rand.New(rand.NewPCG(7, 7))
	for _, op := range backends.Ops() {
		s := randomShape(r, op)
		if n := testing.AllocsPerRun(100, func() { router.Decide(&s, 1) }); n != 0 {
			t.Errorf("%v: %v allocations", op, n)
		}
	}
}

// Whatever the shape, even one that no call could have: the prediction is finite and positive, Decide takes the least of those that
// Explain shows, and those are what the models say.
func TestDecideAgreesWithExplain(t *testing.T) {
	router, r := fiveArms(t), rand.New(rand.NewPCG(8, 8))
	for range 3000 {
		s := randomShape(r, backends.Ops()[r.IntN(len(backends.Ops()))])
		if r.IntN(4) == 0 {
			s = Shape{Op: s.Op, Variant: Variant(r.Uint32()), N: int64(r.Uint64()), D: int64(r.Uint64()), K: int64(r.Uint64()), Groups: int64(r.Uint64()), Out: int64(r.Uint64())}
		}
		excluded := r.Uint64N(1<<5 - 1)
		d := router.Decide(&s, excluded)
		x := router.Explain(s, excluded)
		if d.Arm < 0 || excluded&(1<<d.Arm) != 0 || !(d.Nanos >= minNanos && d.Nanos <= maxNanos) || x.Chosen != router.Arms(s.Op)[d.Arm].String() {
			t.Fatalf("%+v without %b: %+v, explained %+v", s, excluded, d, x)
		}
		for i, c := range x.Arms {
			if c.Skipped == "" && (c.PredictedNs < d.Nanos || c.PredictedNs == d.Nanos && i < d.Arm) {
				t.Fatalf("%+v: %+v is better than the chosen arm %d", s, c, d.Arm)
			}
			if s.Variant >= numVariant {
				continue
			}
			p := router.models[s.Op][i].Predict(s)
			if math.Abs(c.PredictedNs-p.Nanos) > 0.01*p.Nanos || !(p.Spread >= 0 && p.Spread <= p.Nanos) {
				t.Fatalf("%+v: the router says %v, the model %+v", s, c.PredictedNs, p)
			}
		}
	}
}

// More work is never predicted to be faster by the roofline.
func TestRooflineIsMonotone(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for range 5000 {
		op := backends.Ops()[r.IntN(len(backends.Ops()))]
		c := Coef{r.ExpFloat64(), r.ExpFloat64(), r.ExpFloat64(), r.ExpFloat64()}
		a := randomShape(r, op)
		b := a
		for _, x := range []*int64{&b.N, &b.D, &b.K, &b.Groups, &b.Out} {
			*x += r.Int64N(1000)
		}
		fa, fb := a.features(), b.features()
		if c.roofline(&fb) < c.roofline(&fa) {
			t.Fatalf("%+v is faster than %+v with %v", b, a, c)
		}
	}
}

func TestOctavesAreMonotoneAndContinuous(t *testing.T) {
	last := 0.0
	for n := 0.5; n < 1e30; n *= 1.01 {
		p := octaves(n)
		step, weight := place(n)
		if p < last || p-last > 0.03 || n >= 1 && n < 1e18 && math.Abs(p-math.Log2(n)) > 0.09 || step > numSteps-2 || weight < 0 || weight > 1 {
			t.Fatalf("%v lies at %v after %v, at step %d + %v", n, p, last, step, weight)
		}
		last = p
	}
}

// Nothing panics on bad input.
func TestBadInput(t *testing.T) {
	router := fiveArms(t)
	for op := range 256 {
		s := Shape{Op: backends.Op(op), N: 5}
		d := router.Decide(&s, 0)
		if known := slices.Contains(backends.Ops(), s.Op); known != (d.Arm >= 0) || known != (len(router.Arms(s.Op)) > 0) || known != (len(router.Thresholds(s.Op)) > 0) {
			t.Errorf("op %d: %+v", op, d)
		}
		if x := router.Explain(s, 0); x.Arms == nil || x.String() == "" || Reason(op).String() == "" {
			t.Errorf("op %d: %+v", op, x)
		}
	}
	for _, n := range []int{-1, 0, 1} {
		s := Quantize(n, quant.Options{})
		router.Decide(&s, 0)
	}
	arms := map[backends.Op][]Arm{77: {{Backend: "b", Kernel: "k"}}}
	if _, err := NewRouter(arms, nil, Policy{}); !errors.Is(err, ErrPolicy) {
		t.Errorf("an unknown op: %v", err)
	}
	arms = map[backends.Op][]Arm{backends.OpDot: make([]Arm, MaxArms+1)}
	if _, err := NewRouter(arms, nil, Policy{}); !errors.Is(err, ErrPolicy) {
		t.Errorf("too many arms: %v", err)
	}
	p := &Profile{}
	p.Set(backends.OpDot, Arm{Backend: "b", Kernel: "k", Threads: 1}, Model{Coef: Coef{math.NaN()}})
	if _, err := NewRouter(nil, p, Policy{}); !errors.Is(err, ErrProfileDamaged) {
		t.Errorf("a profile that is not a number: %v", err)
	}
}

// What the caller does with its arms and profile afterwards does not reach the router.
func TestRouterIsASnapshot(t *testing.T) {
	a := Arm{Backend: "b", Kernel: "k", Threads: 1}
	arms, p := map[backends.Op][]Arm{backends.OpDot: {a}}, &Profile{}
	p.Set(backends.OpDot, a, Fit(Prior(backends.OpDot, a), []Sample{{Vector(backends.OpDot, 1000), 777}}))
	router, err := NewRouter(arms, p, Policy{})
	if err != nil {
		t.Fatal(err)
	}
	before := router.Explain(Vector(backends.OpDot, 1000), 0).String()
	arms[backends.OpDot][0].Kernel, p.Models[0].Cells[0].Log = "changed", 5
	if after := router.Explain(Vector(backends.OpDot, 1000), 0).String(); after != before {
		t.Errorf("it said\n%s and says\n%s", before, after)
	}
}

// Threads that the machine does not have gain nothing.
func TestPriorKnowsTheCores(t *testing.T) {
	s := Vector(backends.OpNorm2, 1<<20)
	predict := func(h Hardware) float64 {
		m := h.Prior(backends.OpNorm2, Arm{Backend: "cpp", Kernel: "avx2", Threads: 8})
		return m.Predict(s).Nanos
	}
	if two, eight := predict(Hardware{Cores: 2}), predict(Hardware{Cores: 8}); two < 2*eight {
		t.Errorf("eight threads on two cores %v ns, on eight %v ns", two, eight)
	}
}

func BenchmarkDecideOps(b *testing.B) {
	router := fiveArms(b)
	for _, op := range backends.Ops() {
		b.Run(op.String(), func(b *testing.B) {
			r := rand.New(rand.NewPCG(10, 10))
			var shapes [64]Shape
			for i := range shapes {
				shapes[i] = randomShape(r, op)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				router.Decide(&shapes[i%64], 0)
				i++
			}
			b.ReportMetric(float64(len(router.Arms(op))), "arms")
		})
	}
}
