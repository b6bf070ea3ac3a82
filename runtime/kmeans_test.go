// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rays makes n points of dim values near k directions, of lengths that differ a thousandfold.
func rays(n, dim, k int) (x []float32, truth []int) {
	r := rand.New(rand.NewPCG(3, 4))
	axes := make([]float64, k*dim)
	for i := range axes {
		axes[i] = r.NormFloat64()
	}
	for i := range n {
		c := i % k
		length := math.Exp(r.Float64() * 7)
		for p := range dim {
			x = append(x, float32(length*(axes[c*dim+p]+0.05*r.NormFloat64())))
		}
		truth = append(truth, c)
	}
	return x, truth
}

func TestCosineFindsDirections(t *testing.T) {
	const n, dim, k = 3000, 12, 6
	x, truth := rays(n, dim, k)
	rt := open(t, WithoutNative())
	c, err := rt.KMeans(context.Background(), nil, x, dim, KMeansOptions{K: k, Distance: Cosine, Centroids: x[:k*dim]})
	if err != nil {
		t.Fatal(err)
	}
	inertia := 0.0
	for i, l := range c.Labels {
		if int(l) != truth[i] {
			t.Fatalf("point %d of direction %d has label %d", i, truth[i], l)
		}
		var dot, xx, cc float64
		for p := range dim {
			v, w := float64(x[i*dim+p]), float64(c.Centroids[int(l)*dim+p])
			dot, xx, cc = dot+v*w, xx+v*v, cc+w*w
		}
		if math.Abs(cc-1) > 1e-6 {
			t.Fatalf("centroid %d has squared length %v", l, cc)
		}
		inertia += 2 * (1 - dot/math.Sqrt(xx*cc))
	}
	if math.Abs(inertia-c.Inertia) > 1e-4*inertia {
		t.Errorf("inertia %v, the cosines give %v", c.Inertia, inertia)
	}
	scaled := slices.Clone(x)
	for i := range scaled {
		scaled[i] *= float32(math.Ldexp(1, i/dim%9-4)) // powers of two change nothing but the lengths
	}
	d, err := rt.KMeans(context.Background(), nil, scaled, dim, KMeansOptions{K: k, Distance: Cosine, Centroids: x[:k*dim]})
	if err != nil || !slices.Equal(c.Labels, d.Labels) || !slices.Equal(c.Centroids, d.Centroids) || c.Inertia != d.Inertia {
		t.Errorf("other lengths give another result (%v)", err)
	}
}

func TestCosineRefusesRowsWithoutDirection(t *testing.T) {
	rt := open(t, WithoutNative())
	for name, c := range map[string]struct {
		set  func(x []float32)
		want error
		text string
	}{
		"zero": {func(x []float32) { clear(x[20:24]) }, ErrArgument, "row 5 is 0"},
		"NaN":  {func(x []float32) { x[22] = float32(math.NaN()) }, ErrNonFinite, "row 5, column 2 = NaN"},
		"tiny": {func(x []float32) { clear(x[20:24]); x[20] = 1e-45 }, ErrRange, "row 5"},
	} {
		x, _ := rays(40, 4, 2)
		c.set(x)
		if _, err := rt.KMeans(context.Background(), nil, x, 4, KMeansOptions{K: 2, Distance: Cosine}); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := rt.KMeans(context.Background(), nil, make([]float32, 8), 4, KMeansOptions{K: 2, Distance: 7}); !errors.Is(err, ErrArgument) {
		t.Errorf("an unknown distance: %v", err)
	}
}

func TestMiniBatchesComeNearTheFullRun(t *testing.T) {
	const n, dim, k = 20_000, 8, 10
	x := blobs(rand.New(rand.NewPCG(5, 6)), n, dim, k, 8, 0)
	rt := open(t, libraries(t))
	full, err := rt.KMeans(context.Background(), nil, x, dim, KMeansOptions{K: k, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	o := KMeansOptions{K: k, Seed: 1, Batch: 500, MaxIter: 60, Progress: func(int, int64) { seen++ }}
	mini, err := rt.KMeans(context.Background(), nil, x, dim, o)
	if err != nil {
		t.Fatal(err)
	}
	if mini.Inertia > 1.05*full.Inertia || mini.Iterations != 60 || seen != 60 {
		t.Errorf("inertia %v after %d batches (%d told), the full run has %v", mini.Inertia, mini.Iterations, seen, full.Inertia)
	}
	pure, err := open(t, WithoutNative()).KMeans(context.Background(), nil, x, dim, o)
	if err != nil || !slices.Equal(pure.Labels, mini.Labels) || !slices.Equal(pure.Centroids, mini.Centroids) {
		t.Errorf("pure Go differs (%v)", err)
	}
	o.Tol, o.MaxIter = 0.01, 2000
	if c, err := rt.KMeans(context.Background(), nil, x, dim, o); err != nil || !c.Converged || c.Iterations >= 2000 {
		t.Errorf("with a tolerance: %d batches, converged %v, %v", c.Iterations, c.Converged, err)
	}
	o.Batch = -1
	if _, err := rt.KMeans(context.Background(), nil, x, dim, o); !errors.Is(err, ErrArgument) {
		t.Errorf("a negative batch: %v", err)
	}
}

func TestManyProblemsAreEachAsAlone(t *testing.T) {
	const dim = 5
	r := rand.New(rand.NewPCG(8, 9))
	var problems [][]float32
	for i := range 40 {
		problems = append(problems, blobs(r, 50+i, dim, 4, 3, 0))
	}
	o := KMeansOptions{K: 4, Seed: 2}
	for name, rt := range map[string]*Runtime{"pure": open(t, WithoutNative()), "native": open(t, libraries(t))} {
		got, err := rt.KMeansMany(context.Background(), nil, problems, dim, o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, p := range problems {
			want, err := rt.KMeans(context.Background(), nil, p, dim, o)
			if err != nil || !slices.Equal(got[i].Labels, want.Labels) || !slices.Equal(got[i].Centroids, want.Centroids) || got[i].Inertia != want.Inertia {
				t.Errorf("%s: problem %d differs from KMeans (%v)", name, i, err)
			}
		}
	}
	rt := open(t, WithoutNative())
	broken := slices.Clone(problems)
	broken[7] = slices.Clone(broken[7])
	broken[7][13] = float32(math.Inf(1))
	if _, err := rt.KMeansMany(context.Background(), nil, broken, dim, o); !errors.Is(err, ErrNonFinite) || !strings.HasPrefix(err.Error(), "problem 7: ") {
		t.Errorf("an infinity in problem 7: %v", err)
	}
	if _, err := rt.KMeansMany(context.Background(), make([]*Clustering, 3), problems, dim, o); !errors.Is(err, ErrShape) {
		t.Errorf("too few results: %v", err)
	}
	o.Weights = make([]float32, 50)
	if _, err := rt.KMeansMany(context.Background(), nil, problems, dim, o); !errors.Is(err, ErrArgument) {
		t.Errorf("weights: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	o.Weights = nil
	if _, err := rt.KMeansMany(ctx, nil, problems, dim, o); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}

func TestInertiaNeverRises(t *testing.T) {
	const n, dim, k = 4000, 6, 12
	x := blobs(rand.New(rand.NewPCG(10, 11)), n, dim, 5, 2, 1e4)
	rt := open(t, libraries(t))
	last := math.Inf(1)
	for iterations := 1; iterations <= 25; iterations++ {
		c, err := rt.KMeans(context.Background(), nil, x, dim, KMeansOptions{K: k, Centroids: x[:k*dim], MaxIter: iterations})
		if err != nil {
			t.Fatal(err)
		}
		if c.Inertia > last*(1+1e-9) {
			t.Errorf("after %d iterations the inertia is %v, before it was %v", iterations, c.Inertia, last)
		}
		last = c.Inertia
	}
}

// More equal rows than float32 can count: libraries that count in it stop at 2^24.

func TestSkippedPointsCountNowhere(t *testing.T) {
	const n, dim, k = 3000, 5, 9
	x := blobs(rand.New(rand.NewPCG(20, 21)), n, dim, k, 2, 10)
	weights := make([]float32, n)
	var good, goodWeights []float32
	bad := map[int]float32{0: float32(math.NaN()), 7: float32(math.Inf(1)), 8: float32(math.Inf(-1)), 1500: float32(math.NaN()), n - 1: float32(math.NaN())}
	for i := range n {
		weights[i] = float32(i%7) + 0.5
		if v, is := bad[i]; is {
			x[i*dim+i%dim] = v
			continue
		}
		good, goodWeights = append(good, x[i*dim:][:dim]...), append(goodWeights, weights[i])
	}
	for _, option := range []Option{WithoutNative(), libraries(t)} {
		rt := open(t, option)
		for _, o := range []KMeansOptions{{K: k}, {K: k, Weights: weights}, {K: k, Batch: 200, MaxIter: 30}, {K: k, Distance: Cosine}, {K: k, Centroids: good[:k*dim]}} {
			clean := o
			if o.Weights != nil {
				clean.Weights = goodWeights
			}
			want, err := rt.KMeans(context.Background(), nil, good, dim, clean)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := rt.KMeans(context.Background(), nil, x, dim, o); !errors.Is(err, ErrNonFinite) {
				t.Fatalf("%+v: %v", o, err)
			}
			o.SkipNonFinite = true
			got, err := rt.KMeans(context.Background(), nil, x, dim, o)
			if err != nil {
				t.Fatal(err)
			}
			if got.Skipped != len(bad) || want.Skipped != 0 || len(got.Labels) != n {
				t.Fatalf("%d skipped, %d labels", got.Skipped, len(got.Labels))
			}
			var labels []int32
			for i, l := range got.Labels {
				if _, is := bad[i]; is != (l == -1) {
					t.Fatalf("point %d has label %d", i, l)
				} else if !is {
					labels = append(labels, l)
				}
			}
			if !slices.Equal(labels, want.Labels) || !slices.Equal(got.Centroids, want.Centroids) || !slices.Equal(got.Counts, want.Counts) || got.Inertia != want.Inertia || got.Iterations != want.Iterations {
				t.Errorf("%+v: not the clustering of the other points", o)
			}
			if again, err := rt.KMeans(context.Background(), got, good, dim, clean); err != nil || again.Skipped != 0 || len(again.Labels) != n-len(bad) {
				t.Errorf("used again: %v, %d skipped, %d labels", err, again.Skipped, len(again.Labels))
			}
		}
		o := KMeansOptions{K: 2, SkipNonFinite: true}
		if _, err := rt.KMeans(context.Background(), nil, []float32{1, float32(math.NaN()), float32(math.NaN())}, 1, o); !errors.Is(err, ErrArgument) {
			t.Errorf("one point is left for two clusters: %v", err)
		}
		if _, err := rt.KMeans(context.Background(), nil, []float32{float32(math.NaN()), float32(math.Inf(1))}, 1, KMeansOptions{K: 1, SkipNonFinite: true}); !errors.Is(err, ErrArgument) {
			t.Errorf("no point is left: %v", err)
		}
		many, err := rt.KMeansMany(context.Background(), nil, [][]float32{{1, 2, float32(math.NaN())}, {3, 4, 5}}, 1, o)
		if err != nil || many[0].Skipped != 1 || many[0].Labels[2] != -1 || many[1].Skipped != 0 {
			t.Errorf("one of many: %v", err)
		}
		o.Centroids = []float32{float32(math.NaN()), 1}
		if _, err := rt.KMeans(context.Background(), nil, []float32{1, 2, 3}, 1, o); !errors.Is(err, ErrNonFinite) {
			t.Errorf("a centroid that is NaN: %v", err)
		}
	}
}

// An argument error leaves dst as it was, whether it is found before the points are looked at or by a look at them.
func TestKMeansLeavesDstAfterErrors(t *testing.T) {
	rt := open(t, WithoutNative())
	dst, err := rt.KMeans(context.Background(), nil, []float32{1, 2, 3, 10}, 1, KMeansOptions{K: 2})
	if err != nil {
		t.Fatal(err)
	}
	was := *dst
	was.Labels, was.Centroids, was.Counts = slices.Clone(dst.Labels), slices.Clone(dst.Centroids), slices.Clone(dst.Counts)
	huge := float32(2.9166863e18) // 10 of it squared are below 2^126, and the square of the distance between two such rows is none of 32 bits
	far := make([]float32, 20)
	for i := range far {
		far[i] = huge
		if i >= 10 {
			far[i] = -huge
		}
	}
	for name, c := range map[string]struct {
		points []float32
		dim    int
		o      KMeansOptions
		want   error
	}{
		"k":         {[]float32{1}, 1, KMeansOptions{K: 2}, ErrArgument},
		"zero row":  {[]float32{1, 1, 0, 0, 2, 1}, 2, KMeansOptions{K: 1, Distance: Cosine}, ErrArgument},
		"NaN":       {[]float32{1, float32(math.NaN()), 3}, 1, KMeansOptions{K: 1}, ErrNonFinite},
		"distances": {far, 10, KMeansOptions{K: 2}, ErrRange},
	} {
		if _, err := rt.KMeans(context.Background(), dst, c.points, c.dim, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(was, *dst); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
