// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends"
)

// BenchmarkObserve is what one timed call costs the learner, once it knows the machine.
func BenchmarkObserve(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	w := fourArms(r)
	l := w.learner(b, w.profiled())
	size := uniform(r, 4, 24)
	var list []Observation
	for c := range 4096 {
		n := size(c)
		s := Vector(backends.OpNorm2, int(n))
		arm := l.Router().Decide(&s, 0).Arm
		list = append(list, Observation{Shape: s, Arm: arm, Nanos: w.measured(arm, n, c)})
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
		r := rand.New(rand.NewPCG(seed, 2))
		w := fourArms(r)
		var p *Profile
		if seed%2 == 0 {
			p = w.profiled()
		}
		l := w.learner(t, p)
		size := uniform(r, 0, 30)
		var before *Router
		var said []float64
		for c := range 2000 {
			n := size(c)
			s := Vector(backends.OpNorm2, int(n))
			if c%2 == 0 {
				s.Variant = Inside
			}
			arm := r.IntN(len(w.arms))
			factor := 1.0
			if c > 1000 {
				factor = 1.6
				if arm == 2 {
					factor = 5
				}
			}
			l.Observe(Observation{Shape: s, Arm: arm, Nanos: factor * w.measured(arm, n, c)})
			if c%50 != 0 {
				continue
			}
			if before != nil && !slices.Equal(said, predictions(before)) {
				t.Fatalf("seed %d, call %d: a router has changed", seed, c)
			}
			before = l.Router()
			said = predictions(before)
			for i := range w.arms {
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
	w := fourArms(rand.New(rand.NewPCG(1, 2)))
	r := w.learner(t, nil).Router()
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
