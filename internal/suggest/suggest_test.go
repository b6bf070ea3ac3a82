// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
)

// bisector clusters in pure Go.
func bisector(dim int) Bisect {
	var kernel backends.Kernel
	for _, k := range (cpu.Backend{}).Kernels() {
		if k.Op == backends.OpKMeans {
			kernel = k
		}
	}
	return func(ctx context.Context, rows, initial []float32, seed uint64, maxIter int) (Halves, error) {
		n := len(rows) / dim
		a := &backends.KMeans{X: rows, N: n, D: dim, K: 2, Initial: initial, Seed: seed, MaxIter: maxIter, Labels: make([]int32, n), Centroids: make([]float32, 2*dim), Counts: make([]int64, 2)}
		if err := a.Check(); err != nil {
			return Halves{}, err
		}
		err := cpu.Backend{}.KMeans(ctx, kernel, a)
		return Halves{a.Labels, a.Centroids, a.Inertia, a.Iterations}, err
	}
}

func suggestK(t *testing.T, x []float32, dim, maxK int) *Suggestion {
	t.Helper()
	s, err := Run(context.Background(), x, dim, Options{MaxK: maxK, MaxIter: 10, Seed: 1}, bisector(dim))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// walk returns the path that Run took and the rows of each cluster at every k.
func walk(t *testing.T, x []float32, dim, maxK int) (p *path, clusters [][][]int32) {
	t.Helper()
	all, err := total(context.Background(), "suggest k", x, dim)
	if err != nil {
		t.Fatal(err)
	}
	p = &path{ctx: context.Background(), points: x, n: len(x) / dim, dim: dim, o: Options{MaxK: maxK, MaxIter: 10, Seed: 1}, bisect: bisector(dim), root: all}
	if err := p.grow(func() {
		var level [][]int32
		for _, l := range p.leaves {
			level = append(level, append([]int32(nil), p.order[l.first:l.end]...))
		}
		clusters = append(clusters, level)
	}); err != nil {
		t.Fatal(err)
	}
	return p, clusters
}

// near tells whether a and b agree to 1e-9.
func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a), math.Abs(b)) }

// TestCriteriaByBruteForce computes every criterion of every k from the rows of its clusters, by other formulas than the code's.
func TestCriteriaByBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, c := range []struct{ n, dim, maxK int }{{50, 1, 12}, {300, 3, 20}, {400, 17, 9}} {
		x := make([]float32, c.n*c.dim)
		for i := range x {
			x[i] = float32(1000 + 5*float64(r.IntN(3)) + r.Float64())
		}
		s := suggestK(t, x, c.dim, c.maxK)
		p, clusters := walk(t, x, c.dim, c.maxK)
		if len(clusters) != c.maxK || len(s.Candidates) != c.maxK || s.Sampled != c.n {
			t.Fatalf("%d levels, %d candidates, %d sampled", len(clusters), len(s.Candidates), s.Sampled)
		}
		mean := func(rows []int32) []float64 {
			m := make([]float64, c.dim)
			for _, i := range rows {
				for j := range m {
					m[j] += float64(x[int(i)*c.dim+j]) / float64(len(rows))
				}
			}
			return m
		}
		between := func(a, b []float64) (d float64) {
			for j := range a {
				d += (a[j] - b[j]) * (a[j] - b[j])
			}
			return d
		}
		point := func(i int32) []float64 {
			v := make([]float64, c.dim)
			for j := range v {
				v[j] = float64(x[int(i)*c.dim+j])
			}
			return v
		}
		centre := mean(clusters[0][0])
		for level, list := range clusters {
			k := level + 1
			var within, among, widths, seen float64
			var means [][]float64
			for _, rows := range list {
				means = append(means, mean(rows))
				seen += float64(len(rows))
			}
			for a, rows := range list {
				among += float64(len(rows)) * between(means[a], centre)
				for _, i := range rows {
					own := between(point(i), means[a])
					within += own
					other := math.Inf(1)
					for b := range means {
						if b != a {
							other = min(other, between(point(i), means[b]))
						}
					}
					if len(rows) > 1 && k > 1 {
						widths += (math.Sqrt(other) - math.Sqrt(own)) / math.Sqrt(max(own, other)) / float64(c.n)
					}
				}
			}
			variance := within / float64(c.dim*(c.n-k))
			likelihood := 0.0
			for a, rows := range list {
				for _, i := range rows {
					likelihood += math.Log(float64(len(rows))/float64(c.n)) - 0.5*float64(c.dim)*math.Log(2*math.Pi*variance) - between(point(i), means[a])/(2*variance)
				}
			}
			bic := likelihood - 0.5*float64(k-1+k*c.dim+1)*math.Log(float64(c.n))
			got := s.Candidates[level]
			if got.K != k || int(seen) != c.n || len(list) != k {
				t.Fatalf("level %d has k = %d, %d clusters of %v rows", level, got.K, len(list), seen)
			}
			if !near(got.Inertia, within) || !near(got.BIC, bic) || !near(got.Silhouette, widths) {
				t.Errorf("%dx%d, k = %d: inertia %v, BIC %v, silhouette %v; by brute force %v, %v, %v", c.n, c.dim, k, got.Inertia, got.BIC, got.Silhouette, within, bic, widths)
			}
			if ch := among / float64(k-1) / (within / float64(c.n-k)); k > 1 && !near(got.CalinskiHarabasz, ch) {
				t.Errorf("%dx%d, k = %d: Caliński-Harabasz %v, by brute force %v", c.n, c.dim, k, got.CalinskiHarabasz, ch)
			}
			for a, leaf := range p.clusters(k) {
				if between(leaf.mean, means[a]) > 1e-16 || !slices.Equal(slices.Sorted(slices.Values(leaf.rows)), slices.Sorted(slices.Values(list[a]))) {
					t.Fatalf("k = %d: cluster %d has the mean %v, want %v", k, a, leaf.mean, means[a])
				}
			}
		}
	}
}

// TestSampledSilhouetteIsNear: a sample of the rows gives almost what all of them give.
func TestSampledSilhouetteIsNear(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	x := make([]float32, 40_000)
	for i := range x {
		x[i] = float32(i%4*3) + float32(r.Float64()) // ordered by period: an even stride would see one cluster only
	}
	s := suggestK(t, x, 1, 64)
	if s.Sampled != sampleCells/64 {
		t.Fatalf("%d rows sampled", s.Sampled)
	}
	few := suggestK(t, x, 1, 8) // 8 columns: all rows fit
	if few.Sampled != 40_000 {
		t.Fatalf("%d rows sampled", few.Sampled)
	}
	for i, c := range few.Candidates {
		if d := math.Abs(c.Silhouette - s.Candidates[i].Silhouette); d > 0.01 {
			t.Errorf("k = %d: silhouette %v of a sample, %v of all", c.K, s.Candidates[i].Silhouette, c.Silhouette)
		}
	}
	if s.K != 4 || few.K != 4 {
		t.Errorf("k = %d and %d, want 4:\n%v", s.K, few.K, s)
	}
}

func TestKnee(t *testing.T) {
	for _, c := range []struct {
		y    []float64
		want int
	}{
		{[]float64{100, 20, 18, 16, 14, 12}, 1},
		{[]float64{100, 70, 10, 8, 6, 5, 4}, 2},
		{[]float64{100, 80, 60, 40, 20, 0}, -1}, // a straight line has none
		{[]float64{100, 60, 55, 50, 10, 9, 8, 7, 6}, 4},
		{[]float64{5, 5, 5}, -1},
		{[]float64{9, 1}, -1},
		{nil, -1},
	} {
		difference, got := knees(c.y)
		if got != c.want || len(difference) != len(c.y) {
			t.Errorf("%v: knee at %d of %v, want %d", c.y, got, difference, c.want)
		}
	}
	d, _ := knees([]float64{100, 20, 18, 16, 14, 12})
	if want := (100.0-20)/(100-12) - 0.2; !near(d[1], want) {
		t.Errorf("difference %v, want %v", d[1], want)
	}
}

// TestSeparationOfKnownShapes holds the ratio against the closed forms that its threshold rests on.
func TestSeparationOfKnownShapes(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	const n = 200_000
	for _, c := range []struct {
		name string
		draw func() float64
		want float64
	}{
		{"uniform", func() float64 { return r.Float64()*2 - 1 }, 4},
		{"Gaussian", r.NormFloat64, math.Pi / (math.Pi - 2)},
		{"two Gaussians, 8 apart", func() float64 { return r.NormFloat64() + float64(r.IntN(2)*8-4) }, 17},
	} {
		rows := make([]float32, 3*n)
		for i := 0; i < len(rows); i += 3 {
			rows[i+1] = float32(7 + c.draw())
			rows[i+2] = float32(r.NormFloat64()) // at right angles to the line: no part of it
		}
		got := separate(rows, []float32{0, 6, 0, 0, 8, 0}, 3)
		if math.Abs(got.Ratio/c.want-1) > 0.02 || got.Rows < n*99/100 || got.Rows > n {
			t.Errorf("%s: %+v, want %.3f", c.name, got, c.want)
		}
	}
	same := separate([]float32{1, 1, 5, 5}, []float32{1, 5}, 1)
	if !(same.Ratio > 1e12) || math.IsInf(same.Ratio, 0) {
		t.Errorf("equal values on both sides: %v", same.Ratio)
	}
	if small := separate(append(slices.Repeat([]float32{-1, 1}, 500), 19, 21), []float32{0, 20}, 1); !near(small.Ratio, 101) || small.Rows != 4 {
		t.Errorf("a small side: %+v, want the ratio of equal sides, 1 + 20²/4", small)
	}
	if one := separate([]float32{1, 1, 2}, []float32{1, 50}, 1); one.Ratio != 1 {
		t.Errorf("all on one side: %v", one.Ratio)
	}
}

// TestChanceIsAllowedFor splits uniform points in two, as a path's first step does: about one in a thousand passes for two clusters.
func TestChanceIsAllowedFor(t *testing.T) {
	r := rand.New(rand.NewPCG(25, 26))
	splits, passed := 0, 0
	for _, held := range []int{8, 16, 32, 64, 128} {
		for dim := 1; dim <= 2; dim++ {
			for range 1000 {
				x := make([]float32, 2*held*dim)
				for i := range x {
					x[i] = r.Float32()
				}
				h, err := bisector(dim)(context.Background(), x[:held*dim], nil, r.Uint64(), trainRounds)
				if err != nil {
					t.Fatal(err)
				}
				splits++
				if separate(x[held*dim:], h.Centroids, dim).apart() {
					passed++
				}
			}
		}
	}
	t.Logf("%d of %d", passed, splits)
	if passed*1000 > 3*splits {
		t.Errorf("%d of %d splits of uniform points pass", passed, splits)
	}
}

// TestOneClusterIsSeldomMistaken: uniform, Gaussian (with unequal axes) and exponential points have no structure.
func TestOneClusterIsSeldomMistaken(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	runs, wrong := 0, 0
	for _, n := range []int{16, 40, 200, 1000} {
		for _, dim := range []int{1, 2, 8, 32} {
			for range 8 {
				var x [3][]float32
				for i := range n * dim {
					x[0] = append(x[0], r.Float32())
					x[1] = append(x[1], float32(r.NormFloat64()*float64(1+i%dim)))
					x[2] = append(x[2], float32(r.ExpFloat64()))
				}
				for i := range x {
					runs++
					if s := suggestK(t, x[i], dim, DefaultMaxK(n)); s.K != 1 {
						wrong++
						t.Logf("%dx%d, shape %d:\n%v", n, dim, i, s)
					}
				}
			}
		}
	}
	t.Logf("%d of %d runs found structure where there is none", wrong, runs)
	if wrong*100 > runs {
		t.Errorf("more than 1 %% wrong")
	}
}

// TestBitsAreFixed: the evidence of a run on exactly given points, on whatever machine this is.
func TestBitsAreFixed(t *testing.T) {
	var x []float32
	state := uint32(1)
	for i := range 600 * 3 {
		state = state*1664525 + 1013904223
		x = append(x, float32(state>>16)/65536+float32(i/3%5*4))
	}
	s := suggestK(t, x, 3, 24)
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	h := fnv.New64a()
	h.Write(b)
	fmt.Fprint(h, s.Centroids)
	if got, want := h.Sum64(), uint64(0xca048538030d6cd6); got != want {
		t.Errorf("digest %#x, want %#x:\n%v", got, want, s)
	}
}
