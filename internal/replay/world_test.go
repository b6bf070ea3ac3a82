// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// world is a machine made of formulas: what each arm of norm2 truly takes, with noise, and now and then an interrupt.
type world struct {
	arms  []dispatch.Arm
	truth []func(n float64, call int) float64 // nanoseconds
	r     *rand.Rand
	noise float64 // relative, of a call
	awake int     // the latest call on threads: they fall asleep when they have not been needed for a while
}

// measured is what a clock would say of a call.
func (w *world) measured(arm int, n float64, call int) float64 {
	t := w.truth[arm](n, call) * math.Exp(w.noise*w.r.NormFloat64())
	if w.r.IntN(200) == 0 {
		t += 50_000 + 5*t*w.r.Float64() // a thread was put aside
	}
	return t
}

// fourArms: pure Go, two levels of one thread, two threads that are expensive to wake.
func fourArms(r *rand.Rand) *world {
	memory := func(bytes, n float64) float64 { // slower beyond the caches
		return 4 * n / bytes * (1 + 1/(1+math.Exp(-(math.Log2(n)-22))))
	}
	return &world{r: r, noise: 0.05,
		arms: []dispatch.Arm{{Backend: "cpu", Kernel: "go"}, {Backend: "simd_c", Kernel: "avx2"}, {Backend: "simd_c", Kernel: "avx512"}, {Backend: "cpp", Kernel: "avx512x2", Threads: 2}},
		truth: []func(float64, int) float64{
			func(n float64, _ int) float64 { return 40 + memory(3, n) },
			func(n float64, _ int) float64 { return 180 + memory(33, n) },
			func(n float64, _ int) float64 { return 200 + memory(48, n) },
			func(n float64, _ int) float64 { return 4500 + memory(80, n) },
		}}
}

// play plays calls of some sizes with a policy.
func (w *world) play(p Policy, calls int, size func(call int) float64) Score {
	sizes := make([]float64, calls)
	for c := range sizes {
		sizes[c] = size(c)
	}
	g := Game{Calls: calls,
		Shape: func(c int) dispatch.Shape { return dispatch.Vector(backends.OpNorm2, int(sizes[c])) },
		Arms:  func(int) int { return len(w.arms) },
		Clock: func(c, arm int) float64 { return w.measured(arm, sizes[c], c) },
		Price: func(c, arm int) float64 { return w.truth[arm](sizes[c], c) },
		Ran: func(c, arm int) {
			if w.arms[arm].Threads > 1 {
				w.awake = c
			}
		}}
	return g.Play(p)
}

// profiled measures every arm at some sizes, as calibrate does.
func (w *world) profiled() *dispatch.Profile {
	p := &dispatch.Profile{}
	for i, a := range w.arms {
		var samples []dispatch.Sample
		for e := 4; e <= 24; e += 2 {
			for range 5 {
				n := 1 << e
				samples = append(samples, dispatch.Sample{Shape: dispatch.Vector(backends.OpNorm2, n), Nanos: w.measured(i, float64(n), 0)})
			}
		}
		p.Set(backends.OpNorm2, a, dispatch.Fit(dispatch.Prior(backends.OpNorm2, a), samples))
	}
	return p
}

func (w *world) router(t testing.TB, p *dispatch.Profile) *dispatch.Router {
	r, err := dispatch.NewRouter(map[backends.Op][]dispatch.Arm{backends.OpNorm2: w.arms}, p, dispatch.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func uniform(r *rand.Rand, from, to float64) func(int) float64 {
	return func(int) float64 { return math.Floor(math.Exp2(from + (to-from)*r.Float64())) }
}

// busy makes a machine of one that is shared: a call's time varies by a quarter, and for some hundred calls at a time all arms are slower by up to 2.5.
func busy(w *world) {
	w.noise = 0.25
	phases := make([]float64, 64)
	for i := range phases {
		if w.r.IntN(2) == 0 {
			phases[i] = 1.5 * w.r.Float64()
		}
	}
	for i, f := range w.truth {
		w.truth[i] = func(n float64, c int) float64 { return f(n, c) * (1 + phases[c/200%len(phases)]) }
	}
}

// sleepy lets a call on two threads that have not been needed for ten calls take as long as one on a single thread.
func sleepy(w *world) {
	w.noise = 0.15
	awake, alone := w.truth[3], w.truth[2]
	w.truth[3] = func(n float64, c int) float64 {
		if c-w.awake > 10 {
			return 300 + alone(n, c)
		}
		return awake(n, c)
	}
}

// life is a workload on a made-up machine.
type life struct {
	name     string
	profile  bool
	single   bool // never above the best single arm by more than a hundredth: what a profile, or a prior that is about right, makes sure of
	change   func(w *world)
	size     func(r *rand.Rand) func(int) float64
	atMost   float64
	geometry float64
}

var lives = []life{
	{name: "cold", single: true, atMost: 1.10, geometry: 1.25},
	{name: "cold, with priors that are wrong by six either way", atMost: 1.10, geometry: 1.25, change: func(w *world) {
		// Of the two kernels whose prior is unknown one is the fastest and one the slowest.
		w.arms = append(w.arms, dispatch.Arm{Backend: "third", Kernel: "quick"}, dispatch.Arm{Backend: "third", Kernel: "slow"})
		w.truth = append(w.truth, func(n float64, c int) float64 { return 30 + w.truth[2](n, c)/2 }, func(n float64, c int) float64 { return 9000 + 6*w.truth[0](n, c) })
	}},
	{name: "with a profile", profile: true, single: true, atMost: 1.03, geometry: 1.04},
	{name: "bursts of one size", profile: true, single: true, atMost: 1.03, geometry: 1.04, size: func(r *rand.Rand) func(int) float64 {
		draw, n := uniform(r, 4, 24), 0.0
		return func(c int) float64 {
			if c%100 == 0 {
				n = draw(c)
			}
			return n
		}
	}},
	{name: "five times slower half-way", profile: true, single: true, atMost: 1.06, geometry: 1.10, change: func(w *world) {
		f := w.truth[2]
		w.truth[2] = func(n float64, c int) float64 {
			if c >= 2500 {
				return 5 * f(n, c)
			}
			return f(n, c)
		}
	}},
	{name: "five times slower, then well again", profile: true, single: true, atMost: 1.10, geometry: 1.15, change: func(w *world) {
		f := w.truth[2]
		w.truth[2] = func(n float64, c int) float64 {
			if c >= 500 && c < 1500 {
				return 5 * f(n, c)
			}
			return f(n, c)
		}
	}},
	{name: "threads five times slower half-way", profile: true, single: true, atMost: 1.06, geometry: 1.10, change: func(w *world) {
		f := w.truth[3]
		w.truth[3] = func(n float64, c int) float64 {
			if c >= 2500 {
				return 5 * f(n, c)
			}
			return f(n, c)
		}
	}},
	{name: oneSize, profile: true, single: true, atMost: 1.06, geometry: 1.10, change: func(w *world) {
		f := w.truth[2]
		w.truth[2] = func(n float64, c int) float64 {
			if c >= 1000 {
				return 5 * f(n, c)
			}
			return f(n, c)
		}
	}, size: func(r *rand.Rand) func(int) float64 {
		draw := uniform(r, 4, 24)
		return func(c int) float64 {
			if c >= 1000 {
				return 1 << 14
			}
			return draw(c)
		}
	}},
	{name: "busy neighbours, cold", atMost: 1.10, geometry: 1.10, change: busy},
	{name: "busy neighbours, with a profile", profile: true, single: true, atMost: 1.03, geometry: 1.04, change: busy},
	{name: "threads that fall asleep, cold", atMost: 1.10, geometry: 1.10, change: sleepy},
	{name: "threads that fall asleep, with a profile", profile: true, single: true, atMost: 1.03, geometry: 1.06, change: sleepy},
}

// oneSize: what is known of other sizes must not outvote what is seen at the only one that comes.
const oneSize = "one size, five times slower"

const (
	calls = 5000
	seeds = 8
)

// begin makes the machine, its profile if there is one, and the sizes.
func (c *life) begin(seed uint64) (w *world, p *dispatch.Profile, size func(int) float64) {
	r := rand.New(rand.NewPCG(seed, 77))
	w = fourArms(r)
	if c.profile {
		p = w.profiled()
	}
	if c.change != nil {
		c.change(w)
	}
	if c.size != nil {
		return w, p, c.size(r)
	}
	return w, p, uniform(r, 4, 24)
}

// TestWorlds holds what is lost against an oracle that knows each call's fastest arm, over all time and as a geometric mean of calls, so that large calls do not hide small ones.
func TestWorlds(t *testing.T) {
	for seed := range uint64(seeds) {
		for _, c := range lives {
			w, p, size := c.begin(seed)
			l := NewLearning(w.router(t, p))
			s := w.play(l, calls, size)
			cost, all := l.Exploration()
			text := fmt.Sprintf("%s, seed %d: %.4f of the oracle's time, %.4f a call, explored %.4f", c.name, seed, s.Ratio(), s.Geometric, cost/all)
			t.Log(text)
			if cost > 1e6+dispatch.Share*all+1.5*s.DearestNs { // a probe may surprise, once; clocks are noisy
				t.Errorf("%s: exploration took %.0f of %.0f ns", text, cost, all)
			}
			if c.name == "five times slower half-way" {
				if after := s.Mean(2700, 3200); after > 1.05 {
					t.Errorf("%s: 200 calls after the change still %.4f a call", text, after)
				}
			}
			if c.name == oneSize {
				lost := 0
				for _, x := range s.Ratios[1000:] {
					if x > 2 {
						lost++
					}
				}
				if lost > 25 {
					t.Errorf("%s: %d of 4,000 calls at a size at which an arm is slow ran on it", text, lost)
				}
			}
			if s.Ratio() > c.atMost || s.Geometric > c.geometry || c.single && s.TotalNs > 1.01*s.BestSingleNs() {
				t.Errorf("%s; single best arm %.4f", text, s.BestSingleNs()/s.OracleNs)
			}
		}
	}
}
