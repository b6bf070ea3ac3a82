// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

func arms(names ...string) (list []Arm) {
	for _, n := range names {
		b, k, _ := strings.Cut(n, "/")
		list = append(list, Arm{Backend: b, Kernel: k, Threads: 1})
	}
	return list
}

var five = arms("cpu/go", "simd_c/avx512", "simd_c/avx2", "simd_c/sse42", "cpp/2 threads")

// planted makes samples of a known cost with noise, over the sizes of a calibration.
func planted(r *rand.Rand, op backends.Op, c Coef, noise float64) (list []Sample) {
	for e := 4; e <= 24; e++ {
		s := Vector(op, 1<<e)
		if op == backends.OpQuantize {
			s = Quantize(1<<e, quant.Options{}.WithDefaults(1<<e))
		}
		f := s.features()
		for range 5 {
			list = append(list, Sample{s, c.roofline(&f) * (1 + noise*r.NormFloat64())})
		}
	}
	return list
}

func TestFitFindsThePlantedCost(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	want := Coef{500, 0.02}
	samples := planted(r, backends.OpNorm2, want, 0.03)
	samples[7].Nanos *= 500 // one wild sample of five changes nothing
	m := Fit(Prior(backends.OpNorm2, five[1]), samples)
	for _, n := range []int{16, 100, 3000, 70_000, 1_000_000, 10_000_000} { // also between the measured sizes
		s := Vector(backends.OpNorm2, n)
		f := s.features()
		got, exact := m.Predict(s), want.roofline(&f)
		if e := math.Abs(got.Nanos/exact - 1); e > 0.06 {
			t.Errorf("%d values: predicted %.0f ns, planted %.0f (%.0f %% off)", n, got.Nanos, exact, 100*e)
		}
		if got.Samples == 0 || got.Spread <= 0 || got.Spread > 0.2*got.Nanos {
			t.Errorf("%d values: spread %v from %d samples", n, got.Spread, got.Samples)
		}
	}
}

func TestCorrectionFollowsACacheStep(t *testing.T) {
	var samples []Sample
	cost := func(n int) float64 { // four times slower beyond 2^16 values
		if n > 1<<16 {
			return 100 + 0.4*float64(n)
		}
		return 100 + 0.1*float64(n)
	}
	for e := 4; e <= 24; e++ {
		for range 3 {
			samples = append(samples, Sample{Vector(backends.OpNorm2, 1<<e), cost(1 << e)})
		}
	}
	m := Fit(Prior(backends.OpNorm2, five[0]), samples)
	for _, n := range []int{1000, 20_000, 300_000, 5_000_000} {
		if got := m.Predict(Vector(backends.OpNorm2, n)).Nanos; math.Abs(got/cost(n)-1) > 0.1 {
			t.Errorf("%d values: predicted %.0f ns, they take %.0f", n, got, cost(n))
		}
	}
}

// TestPredictionsAreSane: finite, positive and, by the roofline, never less for more work, whatever the profile says.
func TestPredictionsAreSane(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 2000 {
		m := Model{Coef: Coef{r.Float64() * maxCoef, r.ExpFloat64(), r.ExpFloat64(), r.ExpFloat64(), r.ExpFloat64()}}
		bare := m
		for c := r.IntN(20); c < numClasses; c += 1 + r.IntN(30) {
			m.Cells = append(m.Cells, Cell{0, c, (r.Float64()*2 - 1) * maxLog, r.Float64(), 1 + r.IntN(1000)})
		}
		n, d, k := 1+r.IntN(1<<30), 1+r.IntN(1<<12), 1+r.IntN(1<<12)
		for _, s := range []Shape{Vector(backends.OpDot, n), KMeans(n, d, k), Quantize(n, quant.Options{Rule: quant.LeastSquares}.WithDefaults(n))} {
			p := m.Predict(s)
			if !(p.Nanos >= minNanos) || math.IsInf(p.Nanos, 0) || !(p.Spread >= 0) {
				t.Fatalf("%+v on %+v: %+v", m, s, p)
			}
			more := s
			more.N += int64(1 + r.IntN(1000))
			if bare.Predict(more).Nanos < bare.Predict(s).Nanos {
				t.Fatalf("%+v: %v is predicted faster than %v", bare, more, s)
			}
		}
	}
}

// TestDecideAgreesWithPredict: the table that decisions use says what the model says.
func TestDecideAgreesWithPredict(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	p := &Profile{}
	for i, a := range five {
		p.Set(backends.OpQuantize, a, Fit(Prior(backends.OpQuantize, a), planted(r, backends.OpQuantize, Coef{float64(50 * (5 - i)), 0.01 * float64(i+1), 0.02}, 0.05)))
	}
	router, err := NewRouter(map[backends.Op][]Arm{backends.OpQuantize: five}, p, Policy{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		n := 1 + r.IntN(1<<(1+r.IntN(26)))
		s := Quantize(n, quant.Options{}.WithDefaults(n))
		d := router.Decide(&s, 0)
		x := router.Explain(s, 0)
		best := math.Inf(1)
		for _, c := range x.Arms {
			best = min(best, c.PredictedNs)
		}
		// The table interpolates factors, the model logarithms: between two cells they differ a little.
		if chosen := x.Arms[d.Arm].PredictedNs; chosen > best*1.03 || math.Abs(d.Nanos/chosen-1) > 0.03 {
			t.Fatalf("%d values: decided for %.1f ns (%.1f by the model), the best is %.1f", n, d.Nanos, chosen, best)
		}
	}
}

func TestForcedBackendIsAlwaysObeyed(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	all := map[backends.Op][]Arm{}
	for _, op := range backends.Ops() {
		all[op] = five
	}
	for i, a := range five {
		router, err := NewRouter(all, nil, Policy{Force: a.String()})
		if err != nil {
			t.Fatal(err)
		}
		for range 500 {
			s := KMeans(1+r.IntN(1<<20), 1+r.IntN(500), 1+r.IntN(500))
			if d := router.Decide(&s, 0); d.Arm != i || d.Reason != Forced {
				t.Fatalf("%v forced, %+v decided", a, d)
			}
			if d := router.Decide(&s, 1<<i); d.Arm != -1 {
				t.Fatalf("%v forced and excluded, %+v decided", a, d)
			}
		}
	}
}

func TestProfileSurvivesItsFile(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	p := &Profile{Fingerprint: "f", Machine: "m", Created: "c"}
	for _, a := range five {
		p.Set(backends.OpNorm2, a, Fit(Prior(backends.OpNorm2, a), planted(r, backends.OpNorm2, Coef{100, 0.1}, 0.1)))
	}
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	q, err := DecodeProfile(data, "f")
	if err != nil {
		t.Fatal(err)
	}
	again, err := q.Encode()
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("a second round changed the file (%v)", err)
	}
	if _, err := DecodeProfile(data, "g"); !errors.Is(err, ErrProfileForeign) {
		t.Errorf("another machine's profile: %v", err)
	}
	for n := range data {
		if n == len(data)-1 {
			continue // only the last newline is missing
		}
		if _, err := DecodeProfile(data[:n], "f"); err == nil {
			t.Fatalf("torn at byte %d of %d and believed", n, len(data))
		}
	}
}

func TestLyingProfilesAreRefused(t *testing.T) {
	entry := func(s string) string {
		return `{"schema":2,"fingerprint":"f","models":[{"op":"dot","backend":"b","kernel":"k",` + s + `}]}`
	}
	for text, want := range map[string]error{
		``:                                  ErrProfileDamaged,
		`null`:                              ErrProfileVersion,
		`[]`:                                ErrProfileDamaged,
		`{"schema":3}`:                      ErrProfileVersion,
		`{"schema":2,"more":1}`:             ErrProfileDamaged,
		entry(`"coef":[1,1,0,0,0,0]`) + `x`: ErrProfileDamaged,
		entry(`"coef":[-1,1,0,0,0,0]`):      ErrProfileDamaged,
		entry(`"coef":[0,0,0,0,0,0]`):       ErrProfileDamaged,
		entry(`"coef":[1e308,0,0,0,0,0]`):   ErrProfileDamaged,
		entry(`"coef":[1e999,0,0,0,0,0]`):   ErrProfileDamaged,
		entry(`"coef":[NaN,0,0,0,0,0]`):     ErrProfileDamaged,
		entry(`"coef":[1,0,0,0,0,0],"cells":[{"variant":0,"class":3,"log":99,"spread":0,"samples":1}]`):                                                                                                    ErrProfileDamaged,
		entry(`"coef":[1,0,0,0,0,0],"cells":[{"variant":0,"class":-1,"log":0,"spread":0,"samples":1}]`):                                                                                                    ErrProfileDamaged,
		entry(`"coef":[1,0,0,0,0,0],"cells":[{"variant":99,"class":1,"log":0,"spread":0,"samples":1}]`):                                                                                                    ErrProfileDamaged,
		entry(`"coef":[1,0,0,0,0,0],"cells":[{"variant":0,"class":1,"log":0,"spread":0,"samples":-1}]`):                                                                                                    ErrProfileDamaged,
		entry(`"coef":[1,0,0,0,0,0],"cells":[{"variant":0,"class":1,"log":0,"spread":0,"samples":1},{"variant":0,"class":1,"log":0,"spread":0,"samples":1}]`):                                              ErrProfileDamaged,
		`{"schema":2,"fingerprint":"f","models":[` + strings.Repeat(`{"op":"dot","backend":"b","kernel":"k","coef":[1,0,0,0,0,0]},`, 1) + `{"op":"dot","backend":"b","kernel":"k","coef":[1,0,0,0,0,0]}]}`: ErrProfileDamaged,
		strings.Repeat(" ", maxProfileBytes+1): ErrProfileDamaged,
	} {
		if _, err := DecodeProfile([]byte(text), "f"); !errors.Is(err, want) {
			t.Errorf("%.200s: %v, want %v", text, err, want)
		}
	}
}

func FuzzDecodeProfile(f *testing.F) {
	f.Add([]byte(`{"schema":2,"fingerprint":"f","models":[{"op":"dot","backend":"cpu","kernel":"go","coef":[1,0.1,0,0,0,0],"cells":[{"variant":0,"class":9,"log":0.1,"spread":0.1,"samples":5}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := DecodeProfile(data, "f")
		if err != nil {
			return
		}
		r, err := NewRouter(map[backends.Op][]Arm{backends.OpDot: five}, p, Policy{})
		if err != nil {
			t.Fatal(err)
		}
		s := Vector(backends.OpDot, 12345)
		if d := r.Decide(&s, 0); d.Arm < 0 || !(d.Nanos >= minNanos) || math.IsInf(d.Nanos, 0) {
			t.Fatalf("%+v", d)
		}
	})
}

func TestShapesAreRefused(t *testing.T) {
	for _, c := range [][2]string{{"add", "1"}, {"dot", ""}, {"dot", "0"}, {"dot", "-5"}, {"dot", "1x2"}, {"dot", "9223372036854775807"}, {"kmeans", "10"}, {"kmeans", "10x2x20"}, {"kmeans", "3000000000x3000000000x3"}, {"quantize", "1e6"}} {
		if _, err := ParseShape(c[0], c[1]); !errors.Is(err, ErrShape) || !strings.Contains(err.Error(), "1000") {
			t.Errorf("%v: %v, want ErrShape with an example", c, err)
		}
	}
}

func measuredRouter(tb testing.TB) *Router {
	r := rand.New(rand.NewPCG(6, 6))
	p := &Profile{}
	for _, a := range five {
		p.Set(backends.OpConstrain, a, Fit(Prior(backends.OpConstrain, a), planted(r, backends.OpConstrain, Coef{100, 0.1}, 0.1)))
	}
	router, err := NewRouter(map[backends.Op][]Arm{backends.OpConstrain: five}, p, Policy{})
	if err != nil {
		tb.Fatal(err)
	}
	return router
}

func TestDecideAllocatesNothing(t *testing.T) {
	router, s := measuredRouter(t), Vector(backends.OpConstrain, 5000)
	if n := testing.AllocsPerRun(1000, func() { router.Decide(&s, 0) }); n != 0 {
		t.Errorf("%v allocations a decision", n)
	}
}

// BenchmarkDecide is a decision among five arms with a full profile.
func BenchmarkDecide(b *testing.B) {
	router, s := measuredRouter(b), Vector(backends.OpConstrain, 5000)
	b.ReportAllocs()
	for b.Loop() {
		router.Decide(&s, 0)
	}
}
