// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
)

// together opens the device and returns its kernel that takes many fits.
func together(t *testing.T) (backends.Together, backends.Kernel) {
	t.Helper()
	b := device(t)
	for _, k := range b.Kernels() {
		if k.Many {
			return b.(backends.Together), k
		}
	}
	t.Fatal("no kernel takes many fits")
	return nil, backends.Kernel{}
}

// problems makes fits of different sizes that have d, k and options in common, of points around few places, some of them all the same.
func problems(r *rand.Rand, count, most, d, k int, o backends.KMeans) (fits []*backends.KMeans) {
	for i := range count {
		a := o
		a.N, a.D, a.K = k+r.IntN(most), d, k
		a.X = make([]float32, a.N*d)
		for j := range a.X {
			a.X[j] = float32(r.NormFloat64())*float32(i%4) + float32(j/d%(i%5+1))
		}
		if o.Cosine {
			for j := range a.N { // some direction in any case
				a.X[j*d] += 9
			}
		}
		a.Labels, a.Centroids, a.Counts = make([]int32, a.N), make([]float32, k*d), make([]int64, k)
		fits = append(fits, &a)
	}
	return fits
}

// said is a fit's result as text.
func said(a *backends.KMeans) string {
	return fmt.Sprint(a.Labels, a.Centroids, a.Counts, math.Float64bits(a.Inertia), a.Iterations, a.Converged)
}

// Each of many fits has the bits of pure Go, with any dimension, number of clusters and option, though some end sooner than others and some have clusters that become empty.
func TestManyFitsOnDevice(t *testing.T) {
	b, kernel := together(t)
	r := rand.New(rand.NewPCG(21, 22))
	lengths, ends := map[int]bool{}, map[bool]int{}
	for c, shape := range [][4]int{{7, 90, 5, 3}, {12, 300, 4, 16}, {3, 5000, 8, 9}, {5, 150, 33, 40}, {4, 200, 64, 130}, {2, 30, 4100, 3}, {9, 12, 1, 2}, {1, 100, 2, 5}, {6, 200, 3, 70}} {
		count, most, d, k := shape[0], shape[1], shape[2], shape[3]
		for variant := range 8 {
			o := backends.KMeans{Seed: uint64(100*c + variant), MaxIter: []int{1, 4, 30}[(c+variant)%3], Cosine: variant&1 != 0}
			if variant&2 != 0 {
				o.Tol = 1e-3
			}
			if variant&4 != 0 {
				o.Initial = make([]float32, k*d)
				for i := range o.Initial {
					o.Initial[i] = float32(r.NormFloat64()) + 1
				}
				if variant == 6 { // nearest to no point
					for i := range o.Initial[d*(k-1):] {
						o.Initial[d*(k-1)+i] = 1e3
					}
				}
			}
			fits := problems(r, count, most, d, k, o)
			want := make([]string, count)
			for i, a := range fits {
				alone := *a
				alone.Labels, alone.Centroids, alone.Counts = slices.Clone(a.Labels), slices.Clone(a.Centroids), slices.Clone(a.Counts)
				if err := (cpu.Backend{}).KMeans(context.Background(), backends.Kernel{}, &alone); err != nil {
					t.Fatal(err)
				}
				want[i] = said(&alone)
				lengths[alone.Iterations], ends[alone.Converged] = true, ends[alone.Converged]+1
			}
			if err := b.KMeansMany(context.Background(), kernel, &backends.KMeansMany{Fits: fits}); err != nil {
				t.Fatalf("%d problems %s, variant %d: %v", count, fits[0].Shape(), variant, err)
			}
			for i, a := range fits {
				if a.Exact != 1 {
					t.Errorf("%s: the share of exact scores is %v", a.Shape(), a.Exact)
				}
				if got := said(a); got != want[i] {
					t.Errorf("%s, variant %d, problem %d: not the bits of pure Go\n%.200s\n%.200s", a.Shape(), variant, i, got, want[i])
				}
			}
		}
	}
	if len(lengths) < 8 || ends[true] < 20 || ends[false] < 20 {
		t.Errorf("the cases are too much alike: iterations %v, converged %v", lengths, ends)
	}
}

// What is wrong with one of many is said of that one, and a context that ends ends all.
func TestManyFitsThatFail(t *testing.T) {
	b, kernel := together(t)
	r := rand.New(rand.NewPCG(23, 24))
	fits := problems(r, 6, 50, 4, 3, backends.KMeans{MaxIter: 5})
	fits[2].X[9], fits[4].X[3] = float32(math.Inf(1)), float32(math.NaN())
	many := &backends.KMeansMany{Fits: fits}
	err := b.KMeansMany(context.Background(), kernel, many)
	if !errors.Is(err, backends.ErrNonFinite) || many.Failed != 2 || !strings.Contains(err.Error(), "row 2, column 1 = +Inf") {
		t.Errorf("an infinity in problem 2: %v", err)
	}
	fits = problems(r, 6, 50, 4, 3, backends.KMeans{MaxIter: 5, Cosine: true})
	clear(fits[3].X[8:12])
	many.Fits = fits
	err = b.KMeansMany(context.Background(), kernel, many)
	if !errors.Is(err, backends.ErrArgument) || many.Failed != 3 || !strings.Contains(err.Error(), "row 2 is 0") {
		t.Errorf("a row without direction in problem 3: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	many.Fits = problems(r, 6, 50, 4, 3, backends.KMeans{MaxIter: 5})
	if err := b.KMeansMany(ctx, kernel, many); !errors.Is(err, context.Canceled) || many.Failed != -1 {
		t.Errorf("a context that has ended: %v, problem %d", err, many.Failed)
	}
}
