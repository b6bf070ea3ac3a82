// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"math"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// TestStarPUOnWorlds plays the lives with StarPU's way of choosing, on any sizes and on a few that come again and again, as its histories want; where we start with a profile it starts with twelve samples of each arm at each of the few. It loses more everywhere.
func TestStarPUOnWorlds(t *testing.T) {
	half := func(size float64) float64 { return math.Exp2(math.Round(2*math.Log2(size)) / 2) }
	for _, c := range lives {
		for _, few := range []bool{false, true} {
			sizes := func(f func(int) float64) func(int) float64 {
				if !few {
					return f
				}
				return func(c int) float64 { return half(f(c)) }
			}
			name := map[bool]string{false: "any size", true: "41 sizes"}[few]
			var ours, theirs float64
			for seed := range uint64(3) {
				w, p, size := c.begin(seed)
				a := w.play(NewLearning(w.router(t, p)), calls, sizes(size))
				w, _, size = c.begin(seed)
				all := uint64(1)<<len(w.arms) - 1
				rival := NewStarPU(func(*dispatch.Shape) uint64 { return all })
				for e := 4.0; c.profile && e <= 24; e += 0.5 {
					n := math.Exp2(e)
					for i := range 12 * len(w.arms) {
						arm := i % len(w.arms)
						rival.Observe(dispatch.Observation{Shape: dispatch.Vector(backends.OpNorm2, int(n)), Arm: arm, Nanos: w.measured(arm, n, 0)})
					}
				}
				b := w.play(rival, calls, sizes(size))
				ours += math.Log(a.Ratio()) / 3
				theirs += math.Log(b.Ratio()) / 3
			}
			t.Logf("%s, %s: %.3f of the oracle's time, StarPU's way %.3f", c.name, name, math.Exp(ours), math.Exp(theirs))
			if ours >= theirs {
				t.Errorf("%s, %s: StarPU's way loses less: %.4f, learning %.4f", c.name, name, math.Exp(theirs), math.Exp(ours))
			}
		}
	}
}

// TestStarPUBelieves walks through the rules: the first sample is thrown away, ten are believed, a far one is not averaged in, as many far ones as near ones start anew, and a curve serves sizes between those seen.
func TestStarPUBelieves(t *testing.T) {
	p := NewStarPU(func(*dispatch.Shape) uint64 { return 1 })
	see := func(n int, nanos float64) {
		p.Observe(dispatch.Observation{Shape: dispatch.Vector(backends.OpNorm2, n), Nanos: nanos})
	}
	said := func(n int) float64 {
		s := dispatch.Vector(backends.OpNorm2, n)
		t, _, known := p.expected(&s, 0)
		if !known {
			return -1
		}
		return t
	}
	see(1000, 9999)
	for i := range 10 {
		if got := said(1000); got != -1 {
			t.Errorf("after %d samples it says %v", i, got)
		}
		see(1000, 500)
	}
	if got := said(1000); got != 500 {
		t.Errorf("it says %v, not 500", got)
	}
	for range 9 {
		see(1000, 5000)
	}
	if got := said(1000); got != 500 {
		t.Errorf("nine far samples changed it to %v", got)
	}
	see(1000, 5000)
	if got := said(1000); got != -1 {
		t.Errorf("ten far samples did not start it anew: %v", got)
	}
	p = NewStarPU(func(*dispatch.Shape) uint64 { return 1 })
	for i := range 40 { // 200 + n/4 at forty sizes
		n := 1000 + 1000*i
		see(n, 200+float64(n)/4)
	}
	for n, want := range map[int]float64{5500: 1575, 30500: 7825} {
		if got := said(n); math.Abs(got/want-1) > 0.02 {
			t.Errorf("%d: the curve says %v, not %v", n, got, want)
		}
	}
	if got := said(50000); got != -1 {
		t.Errorf("the curve says %v beyond what was seen", got)
	}
}
