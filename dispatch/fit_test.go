// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/setun-compute/setun/backends"
)

// plantedShapes returns n samples whose times follow c, each with a relative error of the given standard deviation.
func plantedShapes(r *rand.Rand, op backends.Op, c Coef, noise float64, n int) []Sample {
	var list []Sample
	for range n {
		s := randomShape(r, op)
		f := s.features()
		list = append(list, Sample{s, c.roofline(&f) * math.Exp(noise*r.NormFloat64())})
	}
	return list
}

var planting = []struct {
	op backends.Op
	c  Coef
}{
	{backends.OpQuantize, Coef{140, 0.012, 0.03, 6}},
	{backends.OpConstrain, Coef{160, 0.02}},
	{backends.OpDot, Coef{25, 0.2}},
	{backends.OpNorm2, Coef{2500, 0.008}},
	{backends.OpKMeans, Coef{4000, 0.02, 0.3, 2, 0.05, 9}},
	{backends.OpMatMul, Coef{400, 0.02, 0.3}},
}

func TestFitRecoversPlantedCoefficients(t *testing.T) {
	for _, p := range planting {
		for _, kernel := range []string{"go", "avx2", "unheard of"} { // priors near and far
			r := rand.New(rand.NewPCG(1, uint64(p.op)))
			prior := Prior(p.op, Arm{Backend: "b", Kernel: kernel, Threads: 1})
			m := Fit(prior, plantedShapes(r, p.op, p.c, 0.03, 200))
			for j, want := range p.c {
				if got := m.Coef[j]; math.Abs(got-want) > 0.15*want+1e-9 {
					t.Errorf("%v from the prior of %s: coefficients %.4g, planted %.4g", p.op, kernel, m.Coef, p.c)
					break
				}
			}
		}
	}
}

// One call in twelve is wild at every size: thirty times too slow or too fast. Each shape was called once, so no median of its own
// helps. (Where half of the calls of a size are wild nothing can tell which half; chance would make such clusters.)
func TestFitWithstandsWildSamples(t *testing.T) {
	for _, p := range planting {
		for _, factor := range []float64{30, 1.0 / 30} {
			r := rand.New(rand.NewPCG(2, uint64(p.op)))
			samples := plantedShapes(r, p.op, p.c, 0.03, 120)
			slices.SortFunc(samples, func(a, b Sample) int { return cmp.Compare(a.Shape.Work(), b.Shape.Work()) })
			for i := 5; i < len(samples); i += 12 {
				samples[i].Nanos *= factor
			}
			m := Fit(Prior(p.op, Arm{Backend: "b", Kernel: "avx2", Threads: 1}), samples)
			var errs []float64
			for _, s := range plantedShapes(r, p.op, p.c, 0, 300) {
				errs = append(errs, math.Abs(m.Predict(s.Shape).Nanos/s.Nanos-1))
			}
			slices.Sort(errs)
			if median, p95 := errs[150], errs[285]; median > 0.1 || p95 > 0.35 {
				t.Errorf("%v, wild by %.3g: error %.3f in the median, %.3f at 95 %%", p.op, factor, median, p95)
			}
		}
	}
}

// cached is a kernel with two cache levels and memory: what no straight line follows.
func cached(n float64) float64 {
	perByte := 0.01
	perByte += 0.012 / (1 + math.Pow(1e5/n, 3))
	perByte += 0.05 / (1 + math.Pow(5e6/n, 3))
	return 130 + 4*n*perByte
}

func TestCorrectionsFollowCaches(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	var samples []Sample
	for n := 64.0; n < 3e8; n *= math.Sqrt2 { // two sizes an octave, not in the middle of their classes
		for range 7 {
			samples = append(samples, Sample{Vector(backends.OpNorm2, int(n*0.9)), cached(n*0.9) * math.Exp(0.04*r.NormFloat64())})
		}
	}
	m := Fit(Prior(backends.OpNorm2, Arm{Backend: "simd_c", Kernel: "avx2", Threads: 1}), samples)
	var errs []float64
	for range 2000 {
		n := math.Exp2(6 + 22*r.Float64())
		errs = append(errs, math.Abs(m.Predict(Vector(backends.OpNorm2, int(n))).Nanos/cached(math.Floor(n))-1))
	}
	slices.Sort(errs)
	t.Logf("error on sizes that were not measured: %.3f in the median, %.3f at 95 %%, %.3f at worst", errs[1000], errs[1900], errs[1999])
	if errs[1000] > 0.05 || errs[1900] > 0.15 {
		t.Errorf("error on sizes that were not measured: %.3f in the median, %.3f at 95 %%", errs[1000], errs[1900])
	}
}

// Noise must not make neighbouring cells swing apart: no cell may be further off than the noise of its samples allows.
func TestCorrectionsDoNotAmplifyNoise(t *testing.T) {
	const noise = 0.3
	var sum, n float64
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(13, seed))
		c := Coef{30, 0.02}
		for _, cell := range Fit(c, plantedShapes(r, backends.OpNorm2, c, noise, 100)).Cells {
			if math.Abs(cell.Log) > 4*noise {
				t.Errorf("seed %d: %+v", seed, cell)
			}
			sum, n = sum+cell.Log*cell.Log, n+1
		}
	}
	if rms := math.Sqrt(sum / n); rms > noise {
		t.Errorf("cells are off by %.3f, the noise is %v", rms, noise)
	}
}

// The order of samples must not matter: a profile is compared and merged as text.
func TestFitIgnoresOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	samples := plantedShapes(r, backends.OpQuantize, planting[0].c, 0.2, 60)
	prior := Prior(backends.OpQuantize, Arm{Backend: "b", Kernel: "go", Threads: 1})
	want := Fit(prior, samples)
	r.Shuffle(len(samples), func(i, j int) { samples[i], samples[j] = samples[j], samples[i] })
	if diff := gocmp.Diff(want, Fit(prior, samples)); diff != "" {
		t.Errorf("another order gives another model:\n%s", diff)
	}
}

// More samples of the same truth must move a prediction towards it, and narrow it.
func TestTrustGrowsWithSamples(t *testing.T) {
	s := Vector(backends.OpNorm2, 1<<16)
	prior := Prior(backends.OpNorm2, Arm{Backend: "b", Kernel: "go", Threads: 1})
	base := []Sample{{Vector(backends.OpNorm2, 1<<10), 1000}, {Vector(backends.OpNorm2, 1<<22), 4_096_000}}
	spread, off := math.Inf(1), math.Inf(1)
	for _, n := range []int{1, 4, 16, 64} {
		samples := slices.Clone(base)
		for range n {
			samples = append(samples, Sample{s, 90_000}) // the line says 65 000
		}
		m := Fit(prior, samples)
		m.Cells[1].Log = max(m.Cells[1].Log, 0)
		p := m.Predict(s)
		if d := math.Abs(p.Nanos - 90_000); n > 1 && (d > off*1.001 || p.Spread/p.Nanos > spread) {
			t.Errorf("%d samples: %.0f ns off, spread %.3f; fewer: %.0f, %.3f", n, d, p.Spread/p.Nanos, off, spread)
		} else {
			off, spread = d, p.Spread/p.Nanos
		}
	}
}

// Measurements at the edges of what can be written down give models that can be saved and read.
func TestFitOfExtremesCanBeSaved(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		op := backends.Ops()[r.IntN(len(backends.Ops()))]
		var samples []Sample
		for range 1 + r.IntN(8) {
			samples = append(samples, Sample{randomShape(r, op), math.Exp2(-1074 + 2098*r.Float64())})
		}
		a := Arm{Backend: "b", Kernel: "k", Threads: 1}
		p := &Profile{Fingerprint: "f"}
		p.Set(op, a, Fit(Prior(op, a), samples))
		data, err := p.Encode()
		if err != nil {
			t.Fatalf("%v of %v: %v", op, samples, err)
		}
		if _, err := DecodeProfile(data, "f"); err != nil {
			t.Fatalf("%v of %v: %v", op, samples, err)
		}
	}
}
