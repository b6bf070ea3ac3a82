// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/setun-compute/setun/quant"
)

// blobs draws n points around k centres that are at least apart standard deviations from each other, in a box as small as that allows. The
// largest cluster has some four times the points of the smallest.
func blobs(r *rand.Rand, n, dim, k int, apart, offset float64) []float32 {
	var centres [][]float64
	for side := apart; len(centres) < k; side *= 1.01 {
		c := make([]float64, dim)
		for j := range c {
			c[j] = side * r.Float64()
		}
		near := false
		for _, o := range centres {
			d := 0.0
			for j := range c {
				d += (c[j] - o[j]) * (c[j] - o[j])
			}
			near = near || d < apart*apart
		}
		if !near {
			centres = append(centres, c)
		}
	}
	x := make([]float32, 0, n*dim)
	for range n {
		c := centres[int(float64(k)*math.Pow(r.Float64(), 1.5))]
		for j := range dim {
			x = append(x, float32(offset+c[j]+r.NormFloat64()))
		}
	}
	return x
}

// TestSuggestKFindsBlobs: up to 8 blobs that are 10 standard deviations apart are always found, 16 to within one (in the plane a split may cut through a
// blob). For nearer ones the log says how often.
func TestSuggestKFindsBlobs(t *testing.T) {
	rt := open(t)
	ks, dims, offsets := []int{1, 2, 3, 5, 8, 16}, []int{2, 8, 32}, []float64{0, 1e4}
	distances := []float64{10, 8, 6, 5, 4}
	if testing.Short() {
		offsets, distances = offsets[1:], distances[:1]
	}
	joined := 0
	var b strings.Builder
	b.WriteString("standard deviations apart: right, one off, further off\n")
	for _, apart := range distances {
		r := rand.New(rand.NewPCG(21, uint64(apart)))
		var right, close, runs int
		var misses []string
		for _, k := range ks {
			for _, dim := range dims {
				for _, offset := range offsets {
					s, err := rt.SuggestK(context.Background(), blobs(r, 1200, dim, k, apart, offset), dim, SuggestOptions{Seed: 7})
					if err != nil {
						t.Fatal(err)
					}
					runs++
					joined += s.Joined
					switch d := s.K - k; {
					case d == 0:
						right++
						continue
					case d == 1 || d == -1:
						close++
					}
					misses = append(misses, fmt.Sprintf("%d→%d in %d", k, s.K, dim))
					if apart >= 10 && (k <= 8 || s.K < k-1 || s.K > k+1) {
						t.Errorf("%d blobs in %d dimensions, offset %v:\n%v", k, dim, offset, s)
					}
				}
			}
		}
		fmt.Fprintf(&b, "%4.0f: %d, %d, %d of %d   %s\n", apart, right, close, runs-right-close, runs, strings.Join(misses, ", "))
	}
	t.Logf("%s%d clusters had been cut and were joined again", b.String(), joined)
	if joined == 0 && !testing.Short() {
		t.Error("no cluster was ever joined: the cuts that mend is for do not happen here")
	}
}

// TestSuggestKOnOtherShapes: clusters of unequal size and width, many clusters in a grid, and what is long but has no gaps.
func TestSuggestKOnOtherShapes(t *testing.T) {
	rt := open(t)
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 27))
		normal := func(deviation float64) float32 { return float32(deviation * r.NormFloat64()) }
		for _, c := range []struct {
			name string
			want int
			o    SuggestOptions
			draw func(i int) (x, y float32)
		}{
			{"one point in 40 is 10 standard deviations away", 2, SuggestOptions{}, func(i int) (x, y float32) { return float32(10*(max(i%40, 38)-38)) + normal(1), normal(1) }},
			{"widths 1, 2, 4 and 8", 4, SuggestOptions{}, func(i int) (x, y float32) {
				return []float32{0, 20, 50, 100}[i%4] + normal(math.Ldexp(1, i%4)), normal(math.Ldexp(1, i%4))
			}},
			{"a grid of 8 by 8", 64, SuggestOptions{MaxK: 100}, func(i int) (x, y float32) { return float32(i%8*10) + normal(1), float32(i/8%8*10) + normal(1) }},
			{"a line", 1, SuggestOptions{}, func(int) (x, y float32) { return 100 * r.Float32(), normal(1) }},
		} {
			var points []float32
			for i := range 4000 {
				x, y := c.draw(i)
				points = append(points, x, y)
			}
			s, err := rt.SuggestK(context.Background(), points, 2, c.o)
			if err != nil || s.K != c.want {
				t.Errorf("%s: want k = %d, %v\n%v", c.name, c.want, err, s)
			}
		}
	}
}

// TestSuggestKIsTheSameEverywhere: whichever kernel clusters, and whatever was done before.
func TestSuggestKIsTheSameEverywhere(t *testing.T) {
	x := blobs(rand.New(rand.NewPCG(22, 1)), 6000, 7, 6, 6, 50)
	pure := open(t, WithoutNative())
	want, err := pure.SuggestK(context.Background(), x, 7, SuggestOptions{Seed: 3})
	if err != nil || want.K != 6 || len(want.Centroids) != 42 {
		t.Fatalf("%v, %v", want, err)
	}
	if b, err := json.Marshal(want); err != nil || !strings.Contains(string(b), `"k":6,"reason":"`) || !strings.Contains(string(b), `"calinski_harabasz":`) {
		t.Errorf("%s, %v", b, err)
	}
	c, err := pure.KMeans(context.Background(), nil, x, 7, KMeansOptions{K: want.K, Centroids: want.Centroids})
	if err != nil || !(c.Inertia <= want.Candidates[5].Inertia*(1+1e-6)) {
		t.Errorf("KMeans from the suggested centroids: %v, inertia %v after %v", err, c.Inertia, want.Candidates[5].Inertia)
	}
	native := libraries(t)
	for name, rt := range map[string]*Runtime{"again": pure, "native": open(t, native)} {
		got, err := rt.SuggestK(context.Background(), x, 7, SuggestOptions{Seed: 3})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestSuggestKAtTheEdges: few points, equal points, more k than distinct points.
func TestSuggestKAtTheEdges(t *testing.T) {
	rt := open(t)
	var background context.Context // nil is allowed
	same := make([]float32, 400)
	for i := range same {
		same[i] = 1e4
	}
	three := make([]float32, 300)
	for i := range three {
		three[i] = float32(i % 3)
	}
	for _, c := range []struct {
		name      string
		points    []float32
		o         SuggestOptions
		k, levels int
		words     string
	}{
		{"one point", []float32{5}, SuggestOptions{}, 1, 1, "all 1 points are equal"},
		{"two points", []float32{5, 6}, SuggestOptions{MaxK: 2}, 1, 1, "k = 1 is all that 2 points"},
		{"equal points", same, SuggestOptions{}, 1, 1, "all 400 points are equal"},
		{"three values", three, SuggestOptions{}, 3, 3, "choose k = 3"},
		{"two pairs", []float32{0, 1, 100, 101}, SuggestOptions{MaxK: 4}, 2, 3, "choose k = 2"},
		{"evenly spread", []float32{0, 1, 2, 3, 4, 5, 6, 7, 8}, SuggestOptions{}, 1, 3, "too few to hold some out"},
		{"k limited to 1", three, SuggestOptions{MaxK: 1}, 1, 1, "the limit on k"},
	} {
		s, err := rt.SuggestK(background, c.points, 1, c.o)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if s.K != c.k || len(s.Candidates) != c.levels || !strings.Contains(s.Reason, c.words) || len(s.Centroids) != c.k {
			t.Errorf("%s: want k = %d of %d because of %q, got %d centroids\n%v", c.name, c.k, c.levels, c.words, len(s.Centroids), s)
		}
		if _, err := json.Marshal(s); err != nil { // fails for an infinity
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestSuggestRefusesBadInput(t *testing.T) {
	rt := open(t)
	ctx := context.Background()
	nan := float32(math.NaN())
	suggest := func(x []float32, dim int, o SuggestOptions) error { _, err := rt.SuggestK(ctx, x, dim, o); return err }
	four := []float32{0, 1, 10, 11}
	good := &Clustering{K: 2, Dim: 1, Labels: []int32{0, 0, 1, 1}, Centroids: []float32{0.5, 10.5}}
	precision := func(x []float32, dim int, o PrecisionOptions, change func(c *Clustering)) error {
		c := *good
		change(&c)
		_, err := rt.SuggestPrecision(ctx, x, dim, &c, o)
		return err
	}
	as := func(*Clustering) {}
	half := PrecisionOptions{MaxError: 0.5}
	closed := open(t)
	closed.Close()
	_, closedK := closed.SuggestK(ctx, four, 1, SuggestOptions{MaxK: 1})
	_, closedPrecision := closed.SuggestPrecision(ctx, four, 1, good, half)
	_, missing := rt.SuggestPrecision(ctx, four, 1, nil, half)
	for _, c := range []struct {
		err      error
		sentinel error
		words    string
	}{
		{suggest(nil, 1, SuggestOptions{}), ErrArgument, "no points"},
		{suggest(four, 0, SuggestOptions{}), ErrArgument, "dimension = 0"},
		{suggest(four, 3, SuggestOptions{}), ErrShape, "4 values are not rows of 3"},
		{suggest(four, 2, SuggestOptions{MaxK: 3}), ErrArgument, "suggest k 2x2: max k = 3 is not within 1..2 points"},
		{suggest(four, 2, SuggestOptions{MaxK: -1}), ErrArgument, "max k = -1"},
		{suggest(four, 2, SuggestOptions{MaxIter: -1}), ErrArgument, "max iterations = -1"},
		{suggest([]float32{1, 2, 3, nan}, 2, SuggestOptions{}), ErrNonFinite, "row 1, column 1 = NaN"},
		{suggest([]float32{float32(math.Inf(1)), 2, 3, nan}, 2, SuggestOptions{MaxK: 1}), ErrNonFinite, "row 0, column 0 = +Inf"},
		{suggest([]float32{3e38, -3e38, 0}, 1, SuggestOptions{MaxK: 2}), ErrRange, "2^125"},
		{closedK, ErrClosed, "Close was called"},
		{precision(four, 0, half, as), ErrArgument, "dimension = 0"},
		{precision(four, 3, half, as), ErrShape, "not rows of 3"},
		{precision(four, 1, PrecisionOptions{}, as), ErrArgument, "one of them must be above 0"},
		{precision(four, 1, PrecisionOptions{MaxError: 1, MaxBits: 2}, as), ErrArgument, "one of them"},
		{precision(four, 1, PrecisionOptions{MaxError: math.NaN()}, as), ErrArgument, "max error = NaN"},
		{precision(four, 1, PrecisionOptions{MaxBits: -1}, as), ErrArgument, "max bits = -1"},
		{precision(four, 1, PrecisionOptions{MaxBits: 1.5}, as), ErrArgument, "max bits = 1.5 is below the 1.585 of ternary"},
		{precision([]float32{0, 1, nan, 11}, 1, half, as), ErrNonFinite, "row 2, column 0 = NaN"},
		{precision(four, 1, half, func(c *Clustering) { c.Dim = 2 }), ErrShape, "2 centroids of 2 values in 2"},
		{precision(four, 1, half, func(c *Clustering) { c.K = 3 }), ErrShape, "3 centroids"},
		{precision(four, 1, half, func(c *Clustering) { c.Labels = c.Labels[:3] }), ErrShape, "3 labels"},
		{precision(four, 1, half, func(c *Clustering) { c.Labels = []int32{0, 0, 2, 1} }), ErrArgument, "label 2 = 2"},
		{precision(four, 1, half, func(c *Clustering) { c.Centroids = []float32{0, nan} }), ErrNonFinite, "centroid 1, column 0"},
		{missing, ErrArgument, "no clustering"},
		{closedPrecision, ErrClosed, "Close was called"},
	} {
		if !errors.Is(c.err, c.sentinel) || !strings.Contains(fmt.Sprint(c.err), c.words) {
			t.Errorf("%v, want %v with %q", c.err, c.sentinel, c.words)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := rt.SuggestK(ctx, four, 1, SuggestOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	if _, err := rt.SuggestPrecision(ctx, four, 1, good, half); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// TestSuggestKStopsInTheMiddle ends the context while the path is being split.
func TestSuggestKStopsInTheMiddle(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	calls := 0
	rt := open(t, WithObserver(func(Event) {
		if calls++; calls == 7 {
			cancel()
		}
	}))
	_, err := rt.SuggestK(ctx, blobs(rand.New(rand.NewPCG(23, 1)), 3000, 4, 5, 8, 0), 4, SuggestOptions{})
	if !errors.Is(err, context.Canceled) || calls > 8 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

// spreadClusters are Gaussian clusters around far centres with standard deviations 4, 2, 1, …
func spreadClusters(r *rand.Rand, n, dim, k int) ([]float32, *Clustering) {
	c := &Clustering{K: k, Dim: dim, Labels: make([]int32, n), Centroids: make([]float32, k*dim)}
	for i := range c.Centroids {
		c.Centroids[i] = float32(100 * (i / dim))
	}
	var x []float32
	for i := range n {
		l := i % k
		c.Labels[i] = int32(l)
		for range dim {
			x = append(x, c.Centroids[l*dim]+float32(math.Ldexp(r.NormFloat64(), 2-l)))
		}
	}
	return x, c
}

// TestPrecisionHoldsWhenQuantized really quantizes the residuals as the plan says and compares the error with the expected one.
func TestPrecisionHoldsWhenQuantized(t *testing.T) {
	const dim, k = 4, 5
	rt := open(t)
	x, c := spreadClusters(rand.New(rand.NewPCG(24, 1)), 40_000, dim, k)
	seen := map[Precision]bool{}
	for _, o := range []PrecisionOptions{{MaxError: 1e-4}, {MaxError: 1e-5}, {MaxError: 1e-6}, {MaxError: 1e-9}, {MaxBits: 1.6}, {MaxBits: 2}, {MaxBits: 4}, {MaxBits: 20}} {
		plan, err := rt.SuggestPrecision(context.Background(), x, dim, c, o)
		if err != nil {
			t.Fatal(err)
		}
		if o.MaxError > 0 && (plan.Error > o.MaxError*(1+1e-9) || plan.Bound > plan.Bits*(1+1e-9)) || o.MaxBits > 0 && (plan.Bits > o.MaxBits*(1+1e-9) || plan.Bound > plan.Error*(1+1e-9)) {
			t.Errorf("%+v: %v", o, plan)
		}
		total := 0.0
		for i, p := range plan.Clusters {
			seen[p.Precision] = true
			if i > 0 && p.Precision > plan.Clusters[i-1].Precision {
				t.Errorf("%+v: a narrower cluster has more bits:\n%v", o, plan)
			}
			var residuals []float32
			for row, l := range c.Labels {
				if int(l) == i {
					for j := range dim {
						residuals = append(residuals, x[row*dim+j]-c.Centroids[i*dim+j])
					}
				}
			}
			mse := meanError(t, rt, residuals, p)
			if p.Precision != PrecisionFloat32 && math.Abs(mse/p.Error-1) > 0.03 {
				t.Errorf("%+v, cluster %d, %v: error %v, expected %v", o, i, p.Precision, mse, p.Error)
			}
			total += mse * float64(len(residuals)) / float64(len(x)) / plan.Variance
		}
		if math.Abs(total-plan.Error) > 0.03*plan.Error+1e-12 {
			t.Errorf("%+v: error %v in all, expected %v", o, total, plan.Error)
		}
		t.Logf("measured error %.4g %%\n%v", 100*total, plan)
	}
	if len(seen) != 4 {
		t.Errorf("only %v were chosen", seen)
	}
}

// meanError is the mean squared error of a value at a precision.
func meanError(t *testing.T, rt *Runtime, x []float32, p ClusterPrecision) (mse float64) {
	t.Helper()
	back := make([]float32, len(x))
	switch p.Precision {
	case PrecisionTernary, PrecisionQuinary:
		q, err := rt.Quantize(nil, x, quant.Options{Levels: map[Precision]quant.Levels{PrecisionTernary: quant.Ternary, PrecisionQuinary: quant.Quinary}[p.Precision], Rule: quant.LeastSquares})
		if err == nil {
			back, err = q.Dequantize(back)
		}
		if err != nil {
			t.Fatal(err)
		}
	case PrecisionInt8:
		step := p.Largest / 127
		for i, v := range x {
			back[i] = float32(math.RoundToEven(float64(v)/step) * step)
		}
	case PrecisionFloat32:
		copy(back, x)
	}
	for i, v := range x {
		mse += (float64(v) - float64(back[i])) * (float64(v) - float64(back[i])) / float64(len(x))
	}
	return mse
}

// TestPrecisionAtTheEdges: equal points, an empty cluster, budgets that everything or nothing narrower than float32 meets.
func TestPrecisionAtTheEdges(t *testing.T) {
	rt := open(t)
	equal := &Clustering{K: 2, Dim: 1, Labels: []int32{0, 0, 0}, Centroids: []float32{7, 9}}
	four := &Clustering{K: 2, Dim: 1, Labels: []int32{0, 0, 1, 1}, Centroids: []float32{0.5, 10.5}}
	for _, c := range []struct {
		points []float32
		c      *Clustering
		o      PrecisionOptions
		want   Precision
	}{
		{[]float32{7, 7, 7}, equal, PrecisionOptions{MaxError: 1e-12}, PrecisionTernary},
		{[]float32{7, 7, 7}, equal, PrecisionOptions{MaxBits: 32}, PrecisionTernary},
		{[]float32{0, 1, 10, 11}, four, PrecisionOptions{MaxError: 10}, PrecisionTernary},
		{[]float32{0, 1, 10, 11}, four, PrecisionOptions{MaxError: 1e-12}, PrecisionFloat32},
		{[]float32{0, 1, 10, 11}, four, PrecisionOptions{MaxBits: 32}, PrecisionFloat32},
		{[]float32{0, 1, 10, 11}, four, PrecisionOptions{MaxBits: 8}, PrecisionInt8},
		{[]float32{0, 1, 10, 11}, four, PrecisionOptions{MaxBits: PrecisionTernary.Bits()}, PrecisionTernary},
	} {
		plan, err := rt.SuggestPrecision(context.Background(), c.points, 1, c.c, c.o)
		if err != nil || plan.Clusters[0].Precision != c.want || plan.Clusters[1].Points > 0 && plan.Clusters[1].Precision != c.want {
			t.Errorf("%+v: want %v, %v\n%v", c.o, c.want, err, plan)
			continue
		}
		if b, err := json.Marshal(plan); err != nil || !strings.Contains(string(b), `"precision":"`+c.want.String()+`"`) {
			t.Errorf("%s, %v", b, err)
		}
	}
}
