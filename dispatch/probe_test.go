// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/setun-compute/setun/backends"
)

// held is what a learner counts as cells, counted anew.
func (l *Learner) held() (n int) {
	for op, arms := range l.arms {
		for i, m := range arms {
			n += len(l.router.models[op][i].Cells)
			for _, list := range m.recent {
				n += len(list)
			}
		}
		for _, c := range l.router.common[op] {
			n += len(c.cells)
		}
	}
	return n
}

// TestCellsAreCounted lives through noise, drift and a busy machine. What is counted is what is there, or learning would stop one day with nothing in memory.
func TestCellsAreCounted(t *testing.T) {
	for seed := range uint64(4) {
		w := timed{rand.New(rand.NewPCG(seed, 9))}
		l := w.learner(t, seed%2 == 0)
		for c := range 20_000 {
			s := Vector(backends.OpNorm2, w.size(0, 30))
			if w.r.IntN(2) == 0 {
				s.Variant = Inside
			}
			arm, factor := w.r.IntN(3), 1.0
			if c/1000%2 == 1 {
				factor = 2.5 // all of them
			}
			if c/3000%2 == 1 && arm == 2 {
				factor *= 5
			}
			l.Observe(Observation{Shape: s, Arm: arm, Nanos: factor * w.nanos(arm, float64(s.N)) * math.Exp(0.3*w.r.NormFloat64())})
			if n := l.held(); l.cells != n || n > 1000 {
				t.Fatalf("seed %d, call %d: %d cells are counted, there are %d", seed, c, l.cells, n)
			}
		}
	}
}

// TestAFullLearnerLearns: when there is room for no further cell those that are there go on changing.
func TestAFullLearnerLearns(t *testing.T) {
	w := timed{rand.New(rand.NewPCG(1, 9))}
	l, s := w.learner(t, true), Vector(backends.OpNorm2, 1<<14)
	see := func(factor float64) {
		for range 100 {
			l.Observe(Observation{Shape: s, Arm: 0, Nanos: w.nanos(0, 1<<14)})
			l.Observe(Observation{Shape: s, Arm: 1, Nanos: factor * w.nanos(1, 1<<14)})
		}
	}
	see(1)
	l.cells = maxCells
	before := l.router.Predict(&s, 1).Nanos
	if see(1.3); l.router.Predict(&s, 1).Nanos < 1.04*before {
		t.Errorf("%.0f ns are predicted, before %.0f", l.router.Predict(&s, 1).Nanos, before)
	}
	if l.cells != maxCells {
		t.Errorf("%d cells", l.cells)
	}
	l = w.learner(t, true)
	all := func(factor float64) {
		for i := range 100 {
			l.Observe(Observation{Shape: s, Arm: i % 2, Nanos: factor * w.nanos(i%2, 1<<14)})
		}
	}
	all(1.3)
	l.cells = maxCells
	before = l.router.Predict(&s, 2).Nanos
	if all(1.7); l.router.Predict(&s, 2).Nanos < 1.15*before {
		t.Errorf("all are slower, but %.0f ns are predicted for the third, before %.0f", l.router.Predict(&s, 2).Nanos, before)
	}
}

// slower is a learner of three ops, each with an arm that is predicted to be hardly slower than the best, and may be much faster as nothing was measured.
func slower(t *testing.T) *Learner {
	arms, p := map[backends.Op][]Arm{}, &Profile{}
	for _, op := range []backends.Op{backends.OpNorm2, backends.OpDot, backends.OpKMeans} {
		arms[op] = []Arm{{Backend: "a", Kernel: "k"}, {Backend: "b", Kernel: "k"}}
		p.Set(op, arms[op][0], Model{Coef: Coef{1e6}})
		p.Set(op, arms[op][1], Model{Coef: Coef{1.6e6}})
	}
	r, err := NewRouter(arms, p, Policy{})
	if err != nil {
		t.Fatal(err)
	}
	return NewLearner(r)
}

// call observes a call of the best arm that took as long as predicted.
func call(l *Learner, s Shape) *Probe { return l.Observe(Observation{Shape: s, Nanos: 1e6, Parts: 1}) }

// TestProbeLapses: a probe that no call fits makes room for another after some hundred calls, and its share of the budget is given back.
func TestProbeLapses(t *testing.T) {
	l := slower(t)
	s, far := Vector(backends.OpNorm2, 1000), Vector(backends.OpNorm2, 1<<20)
	p := call(l, s)
	if p == nil || !p.Fits(&s) || p.Fits(&far) || l.reserved != p.cost || p.cost < 5e5 {
		t.Fatalf("%+v, reserved %v", p, l.reserved)
	}
	var next *Probe
	for i := 0; next == nil && i < 2*lapse; i++ {
		if next = call(l, far); next != nil && i < lapse-1 {
			t.Errorf("another after %d calls", i)
		}
	}
	if next == nil || !next.Fits(&far) || p.Fits(&s) || p.Take(&s, 1) || !next.Over(p) || l.reserved != next.cost || l.explored != 0 {
		t.Fatalf("%+v after %+v; reserved %v, explored %v", next, p, l.reserved, l.explored)
	}
	if !next.Take(&far, 1) || next.Take(&far, 1) {
		t.Error("it is not for one call")
	}
	for range lapse + 2 { // it was taken and is never heard of
		call(l, s)
	}
	if l.explored != next.cost {
		t.Errorf("explored %v, it was kept %v", l.explored, next.cost)
	}
}

// TestWithoutIsNotExplored: an arm that cannot run is no alternative, neither to be tried nor as the best.
func TestWithoutIsNotExplored(t *testing.T) {
	l, s := slower(t), Vector(backends.OpNorm2, 1000)
	for range 1000 {
		if p := l.Observe(Observation{Shape: s, Nanos: 1e6, Without: 2}); p != nil {
			t.Fatalf("%+v", p)
		}
	}
	if p := call(l, s); p == nil || p.Arm != 1 {
		t.Errorf("%+v", p)
	}
	if p := slower(t).Observe(Observation{Shape: s, Arm: 1, Nanos: 1.6e6, Without: 1}); p != nil {
		t.Errorf("the only one that can run is the best: %+v", p)
	}
}

// TestBudgetIsKeptForProbes: what all that wait would cost together is within the budget.
func TestBudgetIsKeptForProbes(t *testing.T) {
	l, waits := slower(t), 0
	for _, op := range []backends.Op{backends.OpNorm2, backends.OpDot} {
		if call(l, Vector(op, 1000)) != nil {
			waits++
		}
	}
	if call(l, KMeans(1000, 4, 4)) != nil {
		waits++
	}
	if waits != 1 || l.budget() < 0 {
		t.Errorf("%d probes of 0.6 ms wait, the budget is 1 ms", waits)
	}
}

// TestProbeCountsParts: a fit of one iteration asks for no call of 300.
func TestProbeCountsParts(t *testing.T) {
	s := KMeans(1000, 4, 4)
	p := slower(t).Observe(Observation{Shape: s, Nanos: 1e6, Parts: 1, Most: 1})
	if p == nil || p.Take(&s, 300) || !p.Take(&s, 1) {
		t.Errorf("%+v", p)
	}
	// With the same limit a call may have more parts than the one that asked; so it costs what calls had lately.
	l := slower(t)
	l.Spend(1, 1e9) // 10 ms for exploring
	l.Observe(Observation{Shape: s, Nanos: 1e6, Parts: 300, Most: 300})
	if p := l.Observe(Observation{Shape: s, Nanos: 1e6, Parts: 1, Most: 300}); p != nil {
		t.Errorf("%+v for %v ns", p, l.budget())
	}
}

// TestProbesHaveTheirPrice also when they fail or others disturb them. A process that was stopped for ten seconds neither earns nor costs them.
func TestProbesHaveTheirPrice(t *testing.T) {
	s := Vector(backends.OpNorm2, 1000)
	beside := s
	beside.Variant |= Beside
	for _, c := range []struct {
		what string
		o    Observation
		want float64
	}{
		{"as expected", Observation{Shape: s, Nanos: 1.6e6}, 0.6e6},
		{"failed", Observation{Shape: s, Nanos: 1.6e6, Failed: true}, 1.6e6},
		{"disturbed", Observation{Shape: beside, Nanos: 1.6e6}, 0.6e6},
		{"faster", Observation{Shape: s, Nanos: 1e5}, 0},
		{"stopped", Observation{Shape: s, Nanos: 1e10}, 5.4e6},
	} {
		l := slower(t)
		p := call(l, s)
		if p == nil || !p.Take(&s, 1) {
			t.Fatalf("%+v", p)
		}
		c.o.Arm, c.o.Probe = 1, true
		if l.Observe(c.o); math.Abs(l.explored-c.want) > 1 || l.probes[s.Op] == nil && l.reserved != 0 {
			t.Errorf("%s: explored %.0f, wanted %.0f; reserved %.0f", c.what, l.explored, c.want, l.reserved)
		}
	}
	l := slower(t)
	call(l, s)
	l.Observe(Observation{Shape: s, Nanos: 1e10, Weight: 64})
	if _, all := l.Exploration(); all > 1e6+64*4e6 {
		t.Errorf("%.0f ns are counted as spent", all)
	}
}
