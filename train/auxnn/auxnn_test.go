// SPDX-License-Identifier: Apache-2.0

package auxnn

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTanh(t *testing.T) {
	for i := -4000; i <= 4000; i++ {
		x := float64(i) / 100
		if d := math.Abs(tanh(x) - math.Tanh(x)); d > 4e-16 || tanh(-x) != -tanh(x) {
			t.Errorf("tanh(%v) is off by %v", x, d)
		}
	}
	if tanh(0) != 0 || tanh(1000) != 1 || tanh(math.Inf(-1)) != -1 {
		t.Error(tanh(0), tanh(1000), tanh(math.Inf(-1)))
	}
}

// random gives the whole network weights, the last layer too, and makes a sample.
func random(seed uint64) (*net, *sample) {
	r := rand.New(rand.NewPCG(seed, 5))
	n, s := new(net), new(sample)
	for i := range n.w {
		n.w[i] = r.NormFloat64()
	}
	for i := range s.x {
		s.x[i] = 2*r.Float64() - 1
	}
	for k := range s.target {
		s.target[k] = 2 * float64(r.IntN(3)-1) // targets of ±2 reach the linear part of the loss
	}
	return n, s
}

// TestGradient against finite differences of the loss, in every parameter.
func TestGradient(t *testing.T) {
	for seed := range uint64(20) {
		n, s := random(seed)
		var g [Parameters]float64
		n.gradient(&g, s)
		for i := range g {
			const h = 1e-6
			w := n.w[i]
			var unused [Parameters]float64
			n.w[i] = w + h
			up := n.gradient(&unused, s)
			n.w[i] = w - h
			down := n.gradient(&unused, s)
			n.w[i] = w
			if d := (up - down) / (2 * h); math.Abs(d-g[i]) > 1e-7*(1+math.Abs(d)) {
				t.Fatalf("seed %d, parameter %d: %v, by differences %v", seed, i, g[i], d)
			}
		}
	}
}

// TestNetworkLearns a function of its inputs from a ring of samples.
func TestNetworkLearns(t *testing.T) {
	r, n := rand.New(rand.NewPCG(1, 1)), new(net)
	n.start(3)
	if _, o := n.forward(&[Inputs]float64{1, -1, 1, 0.3, 0, 1}); o != [Outputs]float64{} {
		t.Errorf("a new network says %v", o)
	}
	samples := make([]sample, window)
	for i := range samples {
		for j := range samples[i].x {
			samples[i].x[j] = 2*r.Float64() - 1
		}
		samples[i].target = [Outputs]float64{0.8 * samples[i].x[0], math.Copysign(0.7, samples[i].x[1])}
	}
	first := n.learn(samples)
	last := first
	for range 1000 {
		last = n.learn(samples)
	}
	if last > first/10 {
		t.Errorf("loss %v, was %v", last, first)
	}
}

// signals are those of a step near decision d.
func signals(r *rand.Rand, d int) Signals {
	return Signals{Loss: 5/(1+0.01*float64(d)) + 0.05*r.NormFloat64(), GradNorm: math.Exp(0.3 * r.NormFloat64()), Cosine: 0.1 * r.NormFloat64(),
		StepNorm: 1e-2 * (1 + r.Float64()), ValueNorm: 10, FlipShare: 1e-3 * r.Float64(), FlipTarget: 1e-3}
}

// world plays a run: signals of a step, and what comes of factors.
func world(c *Controller, decisions int, seed uint64, outcome func(r *rand.Rand, f Factors, plain bool) Outcome) (factors []Factors) {
	for d := range decisions {
		r := rand.New(rand.NewPCG(seed, uint64(d)))
		for range 3 {
			c.Watch(signals(r, d))
		}
		f := c.Decide()
		factors = append(factors, f)
		if c.Observe(outcome(r, f, c.plain)) != nil {
			panic("there was a decision")
		}
	}
	return factors
}

// tooFar is a world in which short radii do well: ρ falls as the radius grows, and the projection is always at work.
func tooFar(r *rand.Rand, f Factors, plain bool) Outcome {
	return Outcome{Ratio: 0.6 - 0.5*math.Log(f.Radius/0.7) + 0.1*r.NormFloat64(), Active: true, Cosine: -0.2}
}

func TestBeginsAsThePlainScheduleAndKeepsItsLimits(t *testing.T) {
	c := New(Options{Seed: 1, Unguarded: true}) // a fall-back goes to 1 at once
	if c.Factors() != (Factors{1, 1}) {
		t.Error(c.Factors())
	}
	last := Factors{1, 1}
	plain := 0
	for i, f := range world(c, 600, 2, tooFar) {
		if i%period < compared {
			if f != (Factors{1, 1}) {
				t.Fatalf("decision %d is plain, but %v", i, f)
			}
			plain++
		} else {
			for _, q := range []float64{f.Rate / last.Rate, f.Radius / last.Radius} {
				if q > change*(1+1e-12) || q < 1/change*(1-1e-12) {
					t.Fatalf("decision %d changes by %v", i, q)
				}
			}
		}
		if !within(f.Rate) || !within(f.Radius) {
			t.Fatal(f)
		}
		last = f
	}
	if plain != 80 { // 10 periods have begun
		t.Errorf("%d plain decisions", plain)
	}
}

// TestLearnsWhatTheWorldRewards: where the gradient keeps pointing along the last step the rate grows, where steps go too far the radius shrinks, where they could go further it grows.
func TestLearnsWhatTheWorldRewards(t *testing.T) {
	for seed := range uint64(3) {
		c := New(Options{Seed: seed})
		f := world(c, 400, seed, tooFar)
		if last := f[399]; last.Rate < 1.3 || last.Radius > 1.1 {
			t.Errorf("seed %d: %v", seed, last)
		}
		if s := c.Success(); s.Fallbacks != 0 || s.Controlled < s.Plain || s.Decisions != 400 {
			t.Errorf("seed %d: %+v", seed, s)
		}
		c = New(Options{Seed: seed})
		f = world(c, 400, seed, func(r *rand.Rand, f Factors, plain bool) Outcome {
			return Outcome{Ratio: 1 + 0.05*r.NormFloat64(), Active: true, Cosine: 0.3}
		})
		if last := f[399]; last.Rate > 0.8 || last.Radius < 1.5 {
			t.Errorf("seed %d: %v", seed, last)
		}
		c = New(Options{Seed: seed, FixedRate: true, FixedRadius: true})
		for _, f := range world(c, 100, seed, tooFar) {
			if f != (Factors{1, 1}) {
				t.Fatal(f)
			}
		}
	}
}

// TestSafeguard feeds outcomes that are bad exactly when the controller is in control.
func TestSafeguard(t *testing.T) {
	adversary := func(r *rand.Rand, f Factors, plain bool) Outcome {
		if plain {
			return Outcome{Ratio: 0.5 + r.Float64(), Active: true}
		}
		return Outcome{Ratio: []float64{-1, math.NaN(), math.Inf(1), math.Inf(-1), 0.1, 5}[r.IntN(6)], Active: true}
	}
	c := New(Options{Seed: 1})
	f := world(c, 2000, 1, adversary)
	controlled, runs := 0, 0
	for i := range f {
		if f[i] != (Factors{1, 1}) {
			controlled++
			if f[i-1] == (Factors{1, 1}) {
				runs++
			}
		}
	}
	s := c.Success()
	if s.Fallbacks < 5 || controlled > 300 || runs < 4 || s.Plain < 0.95 || s.Controlled > 0.1 {
		t.Errorf("%d of 2000 decisions were controlled, %d runs: %+v", controlled, runs, s)
	}
	if first := 2 * enough; f[compared+first] != (Factors{1, 1}) { // some outcomes are needed first, then it is at once
		t.Errorf("decision %d: %v", compared+first, f[compared+first])
	}
	t.Logf("%d of 2000 decisions were controlled, in %d runs: %+v", controlled, runs, s)

	// A world that turns good: it resumes, stays, and the next fall-back is short again.
	world(c, 1000, 2, func(r *rand.Rand, f Factors, plain bool) Outcome { return Outcome{Ratio: 1, Active: true} })
	if s := c.Success(); s.Cooling != 0 || s.Controlled != 1 || c.streak != 0 {
		t.Errorf("%+v after it turned good, streak %d", s, c.streak)
	}

	// Equal success is no reason to fall back; and without the guard nothing is.
	c = New(Options{Seed: 1})
	world(c, 1000, 3, func(r *rand.Rand, f Factors, plain bool) Outcome { return Outcome{Ratio: float64(r.IntN(10)) / 4} })
	if s := c.Success(); s.Fallbacks > 6 {
		t.Errorf("chance alone made it fall back: %+v", s)
	}
	c = New(Options{Seed: 1, Unguarded: true})
	world(c, 300, 1, adversary)
	if s := c.Success(); s.Fallbacks != 0 || s.Cooling != 0 || s.Plain < 0.95 || s.Controlled > 0 {
		t.Errorf("%+v", s)
	}
}

func TestSuccessCounts(t *testing.T) {
	c := New(Options{})
	for i, ratio := range []float64{0.25, 4, 0.1, 5, -1, math.NaN(), math.Inf(1), 1} { // the first 8 are plain
		c.Decide()
		if err := c.Observe(Outcome{Ratio: ratio}); err != nil {
			t.Fatal(i, err)
		}
	}
	if d := cmp.Diff(Success{Plain: 3. / 8, Decrease: 5. / 8, Outcomes: [2]int{0, 8}, Decisions: 8}, c.Success()); d != "" {
		t.Error(d)
	}
	c.Decide()
	if err := c.Observe(Outcome{Skip: true}); err != nil || c.Success().Outcomes[0] != 0 || c.samples != 8 {
		t.Error("a decision that was skipped counts")
	}
	if err := c.Observe(Outcome{}); !errors.Is(err, ErrOrder) {
		t.Error(err)
	}
}

// TestBadSignalsArePassedOver: nothing that comes in can make anything not finite.
func TestBadSignalsArePassedOver(t *testing.T) {
	r, c := rand.New(rand.NewPCG(3, 4)), New(Options{Seed: 2})
	wild := func() float64 {
		return []float64{0, 1, -1, math.NaN(), math.Inf(1), math.Inf(-1), 1e300, -1e300, 1e-300, math.MaxFloat64}[r.IntN(10)]
	}
	for range 3000 {
		c.Watch(Signals{wild(), wild(), wild(), wild(), wild(), wild(), wild()})
		f := c.Decide()
		if !within(f.Rate) || !within(f.Radius) {
			t.Fatal(f)
		}
		if err := c.Observe(Outcome{Ratio: wild(), Active: r.IntN(2) == 0, Cosine: wild()}); err != nil {
			t.Fatal(err)
		}
		if err := New(Options{}).Load(c.State()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestResume: a state through JSON in the middle, also between a decision and its outcome, changes nothing; nor does the number of threads.
func TestResume(t *testing.T) {
	for _, at := range []int{0, 1, 7, 90, 200} {
		a := New(Options{Seed: 6})
		want := world(a, 300, 6, tooFar)
		old := runtime.GOMAXPROCS(1)
		b := New(Options{Seed: 6})
		got := world(b, at, 6, tooFar)
		data, err := json.Marshal(b.State())
		if err != nil {
			t.Fatal(err)
		}
		var s State
		if err := json.Unmarshal(data, &s); err != nil {
			t.Fatal(err)
		}
		c := New(Options{Seed: 99})
		if err := c.Load(&s); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(b.State(), c.State()); d != "" {
			t.Error(d)
		}
		rest := 300 - at
		for d := range rest { // world from decision at on
			got = append(got, one(c, at+d))
		}
		runtime.GOMAXPROCS(old)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("from decision %d: %s", at, d)
		}
		if d := cmp.Diff(a.State(), c.State()); d != "" {
			t.Errorf("from decision %d: %s", at, d)
		}
	}
}

// one is the d-th decision of world with seed 6.
func one(c *Controller, d int) Factors {
	r := rand.New(rand.NewPCG(6, uint64(d)))
	for range 3 {
		c.Watch(signals(r, d))
	}
	f := c.Decide()
	if c.Observe(tooFar(r, f, c.plain)) != nil {
		panic("there was a decision")
	}
	return f
}

func TestBadStates(t *testing.T) {
	c := New(Options{Seed: 1})
	world(c, 100, 1, tooFar)
	before := c.State()
	for i, spoil := range []func(s *State){
		func(s *State) { s.Weights = s.Weights[1:] },
		func(s *State) { s.M = nil },
		func(s *State) { s.V[3] = -1 },
		func(s *State) { s.Weights[3] = math.NaN() },
		func(s *State) { s.Input = append(s.Input, 0) },
		func(s *State) { s.Ring = s.Ring[:5] },
		func(s *State) { s.Ring[2].Target[0] = math.Inf(1) },
		func(s *State) { s.Samples = -1 },
		func(s *State) { s.Cooling = coolMost + 1 },
		func(s *State) { s.Plain.N = 65 },
		func(s *State) { s.Factors.Rate = 0 },
		func(s *State) { s.Factors.Radius = math.NaN() },
		func(s *State) { s.Tracker.Features[2].Mean.Value = math.NaN() },
		func(s *State) { s.Tracker.Latest[0] = math.Inf(-1) },
		func(s *State) { s.Loss = math.NaN() },
	} {
		s := c.State()
		spoil(s)
		if err := c.Load(s); !errors.Is(err, ErrState) {
			t.Errorf("state %d: %v", i, err)
		}
	}
	if err := c.Load(nil); !errors.Is(err, ErrState) {
		t.Error(err)
	}
	if d := cmp.Diff(before, c.State()); d != "" {
		t.Error(d)
	}
}

func TestDecideAndObserveAllocateNothing(t *testing.T) {
	c := New(Options{})
	if n := testing.AllocsPerRun(100, func() {
		c.Watch(Signals{Loss: 1, GradNorm: 1, StepNorm: 1, ValueNorm: 1})
		c.Decide()
		if err := c.Observe(Outcome{Ratio: 1}); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzState loads states that say anything. One that is refused changes nothing, and a controller goes on from one that is taken, within its limits.
func FuzzState(f *testing.F) {
	text := func(t testing.TB, c *Controller) string {
		b, err := json.Marshal(c.State())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	whole := text(f, New(Options{}))
	for _, s := range []string{whole, strings.Replace(whole, `"samples":0`, `"samples":-5`, 1), strings.Replace(whole, `"cooling":0`, `"cooling":9000000000000000000`, 1), strings.Replace(whole, `"pending":false`, `"pending":true`, 1), "null", "{}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s State
		if json.Unmarshal(data, &s) != nil {
			return
		}
		c := New(Options{})
		if err := c.Load(&s); err != nil {
			if !errors.Is(err, ErrState) || text(t, c) != whole {
				t.Fatalf("%v, and it is\n%s", err, text(t, c))
			}
			return
		}
		taken := text(t, c)
		again := New(Options{})
		if err := again.Load(c.State()); err != nil || text(t, again) != taken {
			t.Fatalf("what was taken is refused, or is another: %v", err)
		}
		for d := range 3 {
			if fs := one(c, d); !within(fs.Rate) || !within(fs.Radius) {
				t.Fatalf("%+v", fs)
			}
		}
	})
}
