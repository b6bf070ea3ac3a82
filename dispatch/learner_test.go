// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends"
)

// timed makes up what norm2 takes on three arms, and a learner that starts with that as its profile, or with prior knowledge.
type timed struct{ r *rand.Rand }

func (w timed) nanos(arm int, n float64) float64 {
	launch, bytes := [...]float64{40, 180, 4500}, [...]float64{3, 33, 80}
	return (launch[arm] + 4*n/bytes[arm]) * math.Exp(0.05*w.r.NormFloat64())
}

func (w timed) size(from, to float64) int { return int(math.Exp2(from + (to-from)*w.r.Float64())) }

func (w timed) learner(t testing.TB, measured bool) *Learner {
	arms := []Arm{{Backend: "cpu", Kernel: "go"}, {Backend: "simd_c", Kernel: "avx2"}, {Backend: "cpp", Kernel: "avx512x2", Threads: 2}}
	p := &Profile{}
	for i, a := range arms {
		var samples []Sample
		for e := 4; measured && e <= 24; e += 2 {
			for range 5 {
				samples = append(samples, Sample{Vector(backends.OpNorm2, 1<<e), w.nanos(i, float64(int(1)<<e))})
			}
		}
		p.Set(backends.OpNorm2, a, Fit(Prior(backends.OpNorm2, a), samples))
	}
	r, err := NewRouter(map[backends.Op][]Arm{backends.OpNorm2: arms}, p, Policy{})
	if err != nil {
		t.Fatal(err)
	}
	return NewLearner(r)
}

// BenchmarkObserve is what one timed call costs the learner, once it knows the machine.
func BenchmarkObserve(b *testing.B) {
	w := timed{rand.New(rand.NewPCG(1, 2))}
	l := w.learner(b, true)
	var list []Observation
	for range 4096 {
		s := Vector(backends.OpNorm2, w.size(4, 24))
		arm := l.Router().Decide(&s, 0).Arm
		list = append(list, Observation{Shape: s, Arm: arm, Nanos: w.nanos(arm, float64(s.N))})
	}
	for _, o := range list {
		l.Observe(o)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		l.Observe(list[i%len(list)])
		i++
	}
}

// TestRowsAreThoseOfTheModel compares the tables that a learner mends bit by bit with those made anew from its models. Routers that it gave out before stay as they were.
func TestRowsAreThoseOfTheModel(t *testing.T) {
	for seed := range uint64(8) {
		w := timed{rand.New(rand.NewPCG(seed, 2))}
		l := w.learner(t, seed%2 == 0)
		var before *Router
		var said []float64
		for c := range 2000 {
			s := Vector(backends.OpNorm2, w.size(0, 30))
			if c%2 == 0 {
				s.Variant = Inside
			}
			arm := w.r.IntN(3)
			factor := 1.0
			if c > 1000 {
				factor = 1.6
				if arm == 2 {
					factor = 5
				}
			}
			l.Observe(Observation{Shape: s, Arm: arm, Nanos: factor * w.nanos(arm, float64(s.N))})
			if c%50 != 0 {
				continue
			}
			if before != nil && !slices.Equal(said, predictions(before)) {
				t.Fatalf("seed %d, call %d: a router has changed", seed, c)
			}
			before = l.Router()
			said = predictions(before)
			for i := range 3 {
				have, want := &l.router.entries[backends.OpNorm2][i], newEntry(&l.router.models[backends.OpNorm2][i], 0, 1)
				for v := range have.rows {
					if (have.rows[v] == nil) != (want.rows[v] == nil) || have.rows[v] != nil && *have.rows[v] != *want.rows[v] {
						t.Fatalf("seed %d, call %d, arm %d, variant %d: the rows differ", seed, c, i, v)
					}
				}
			}
		}
	}
}

// predictions are all that a router says of norm2.
func predictions(r *Router) (all []float64) {
	for e := range 31 {
		for _, v := range []Variant{0, Inside, Beside} {
			s := Vector(backends.OpNorm2, 1<<e)
			s.Variant = v
			f := s.features()
			for i := range r.Arms(s.Op) {
				nanos, spread := r.expects(&s, i, &f)
				all = append(all, nanos, spread)
			}
		}
	}
	return all
}

// TestDraftOfSeveralVariants puts what arms have in common at two variants into one draft, and does not touch the router that it began with.
func TestDraftOfSeveralVariants(t *testing.T) {
	r := timed{rand.New(rand.NewPCG(1, 2))}.learner(t, false).Router()
	for range 2 { // once on nothing, once on what is there
		said := predictions(r)
		d := draft{Router: r, op: backends.OpNorm2}
		for i, v := range []Variant{0, Inside} {
			d.putCommon(Cell{Variant: v, Class: 10, Log: 0.5 + float64(i)})
			if got := d.together(d.op, key{v, 10}); got != 0.5+float64(i) {
				t.Errorf("variant %d: %v", v, got)
			}
		}
		if !slices.Equal(said, predictions(r)) {
			t.Error("the router has changed")
		}
		r = d.Router
	}
}
