// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestClustersShareACall: a step asks for one update of each tensor, however its rows are grouped.
func TestClustersShareACall(t *testing.T) {
	rt := open(t)
	tensors := model(1)
	o := must[*Optimizer](t)(New(rt, tensors, Options{Groups: ByRow, Factors: Relative}))
	for step := range 3 {
		gradients(tensors, step)
		must[Report](t)(o.Step(t.Context(), Control{Rate: 0.01, Radius: 0.1}))
	}
	calls := int64(0)
	for _, m := range rt.Metrics() {
		if m.Op == "update" {
			calls += m.Calls
		}
	}
	if calls != int64(3*len(tensors)) {
		t.Errorf("%d updates in 3 steps of %d tensors", calls, len(tensors))
	}
}

// TestFactorsScaleTheStep: a row's step is that of a tensor without clusters times its cluster's factor, rounded once; so factors of 1 give its bits. Moments know no factors.
func TestFactorsScaleTheStep(t *testing.T) {
	rt := open(t)
	for _, method := range []Method{AdamW, SGD} {
		whole, parted := model(7), model(7)
		a := must[*Optimizer](t)(New(rt, whole, Options{Method: method, Momentum: 0.9}))
		b := must[*Optimizer](t)(New(rt, parted, Options{Method: method, Momentum: 0.9, Groups: ByKMeans, K: 3}))
		both := func(step int, c Control) {
			gradients(whole, step)
			gradients(parted, step)
			must[Report](t)(a.Step(t.Context(), c))
			must[Report](t)(b.Step(t.Context(), c))
		}
		for step := range 4 {
			both(step, Control{Rate: 0.01, Decay: 0.1})
		}
		if d := cmp.Diff(whole, parted); d != "" {
			t.Fatalf("method %d, factors of 1: %s", method, d)
		}
		factors := []float64{1, 0.7, 1.9}
		for i := range 2 {
			for c, f := range factors {
				if err := b.SetFactors(i, c, f, 1); err != nil {
					t.Fatal(err)
				}
			}
		}
		both(4, Control{Rate: 0.01, Decay: 0.1})
		for i := range a.parts {
			p, q := &a.parts[i], &b.parts[i]
			if !slices.Equal(p.m, q.m) || !slices.Equal(p.v, q.v) {
				t.Errorf("method %d: moments of %s differ", method, p.Name)
			}
			for j, d := range p.delta {
				f := float32(1)
				if q.labels != nil {
					f = float32(factors[q.labels[j/p.Cols]])
				}
				if got := q.delta[j]; got != float32(d*f) {
					t.Fatalf("method %d: step %d of %s is %v, want %v·%v", method, j, p.Name, got, d, f)
				}
			}
		}
		if b.parts[0].groups() != 3 || b.parts[2].groups() != 1 {
			t.Errorf("%d and %d groups", b.parts[0].groups(), b.parts[2].groups())
		}
	}
}

// TestUnguided: without what guides an auxiliary network steps are the same, in fewer calls.
func TestUnguided(t *testing.T) {
	calls := func(opts Options) (n int64, d uint64, r Report) {
		rt, tensors := open(t), model(1)
		o := must[*Optimizer](t)(New(rt, tensors, opts))
		list := steps(t, o, tensors, 0, 4)
		r = list[len(list)-1]
		for _, m := range rt.Metrics() {
			n += m.Calls
		}
		return n, digest(o.State(nil), tensors), r
	}
	opts := everything
	n, d, r := calls(opts)
	opts.Unguided = true
	fewer, same, other := calls(opts)
	if fewer >= n || same != d || r.Cosine == 0 || r.Predicted == 0 || other.Cosine != 0 || other.Predicted != 0 || other.Norm != r.Norm {
		t.Errorf("%d and %d calls, digests %#x and %#x:\n%+v\n%+v", n, fewer, d, same, r, other)
	}
}
