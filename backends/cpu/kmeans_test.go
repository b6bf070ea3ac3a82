// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/setun-compute/setun/backends"
)

// cluster runs k-means and fails the test on an error.
func cluster(t *testing.T, a backends.KMeans) *backends.KMeans {
	t.Helper()
	a.Labels, a.Centroids, a.Counts = make([]int32, a.N), make([]float32, a.K*a.D), make([]int64, a.K)
	if a.MaxIter == 0 {
		a.MaxIter = 100
	}
	if err := a.Check(); err != nil {
		t.Fatal(err)
	}
	if err := (Backend{}).KMeans(context.Background(), backends.Kernel{}, &a); err != nil {
		t.Fatal(err)
	}
	return &a
}

// blobs draws n points around k centres far apart.
func blobs(n, d, k int, offset float32) []float32 {
	r := rand.New(rand.NewPCG(7, uint64(n)))
	centres := make([]float32, k*d)
	for i := range centres {
		centres[i] = float32(10 * r.NormFloat64())
	}
	x := make([]float32, n*d)
	for i := range x {
		x[i] = centres[i/d%k*d+i%d] + float32(r.NormFloat64()) + offset
	}
	return x
}

func TestKMeansFindsBlobs(t *testing.T) {
	const n, d, k = 5000, 5, 6
	for _, offset := range []float32{0, 1e4} { // far from the origin as well as near it
		a := cluster(t, backends.KMeans{X: blobs(n, d, k, offset), N: n, D: d, K: k, Seed: 3})
		if !a.Converged {
			t.Errorf("offset %v: not converged after %d iterations", offset, a.Iterations)
		}
		// Every point carries d values of variance 1 around its centre.
		if per := a.Inertia / (n * d); per > 1.1 {
			t.Errorf("offset %v: inertia %v a value, want about 1", offset, per)
		}
		for i := range n {
			if a.Labels[i] != a.Labels[i%k] {
				t.Fatalf("offset %v: points %d and %d of one blob are apart", offset, i, i%k)
			}
		}
	}
}

func TestKMeansInertiaNeverRises(t *testing.T) {
	const n, d, k = 3000, 7, 20
	x := normals(n * d)
	last := math.Inf(1)
	for it := 1; it < 12; it++ {
		a := cluster(t, backends.KMeans{X: x, N: n, D: d, K: k, Initial: slices.Clone(x[:k*d]), MaxIter: it})
		if a.Inertia > last*(1+1e-6) {
			t.Errorf("inertia %v after %d iterations, %v before", a.Inertia, it, last)
		}
		last = a.Inertia
	}
}

func TestKMeansWeightsAreCopies(t *testing.T) {
	const n, d, k = 400, 3, 4
	x := blobs(n, d, k, 0)
	weights := make([]float32, n)
	var copies []float32
	for i := range weights {
		weights[i] = float32(i % 4)
		for range i % 4 {
			copies = append(copies, x[i*d:][:d]...)
		}
	}
	init := slices.Clone(x[d : d+k*d])
	a := cluster(t, backends.KMeans{X: x, N: n, D: d, K: k, Initial: init, Weights: weights})
	b := cluster(t, backends.KMeans{X: copies, N: len(copies) / d, D: d, K: k, Initial: init})
	if math.Abs(a.Inertia-b.Inertia) > 1e-4*b.Inertia {
		t.Errorf("inertia %v with weights, %v with copies", a.Inertia, b.Inertia)
	}
	for i, c := range a.Centroids {
		if math.Abs(float64(c-b.Centroids[i])) > 1e-4 {
			t.Errorf("centroid value %d: %v with weights, %v with copies", i, c, b.Centroids[i])
		}
	}
}

func TestKMeansAwkwardPoints(t *testing.T) {
	same := make([]float32, 300)
	for i := range same {
		same[i] = 2.5
	}
	a := cluster(t, backends.KMeans{X: same, N: 100, D: 3, K: 5})
	if a.Inertia != 0 || !a.Converged || a.Counts[0] != 100 {
		t.Errorf("duplicates: inertia %v, converged %v, counts %v", a.Inertia, a.Converged, a.Counts)
	}
	x := normals(60)
	a = cluster(t, backends.KMeans{X: x, N: 20, D: 3, K: 20})
	if a.Inertia > 1e-10 || slices.Max(a.Counts) != 1 {
		t.Errorf("k = n: inertia %v, counts %v", a.Inertia, a.Counts)
	}
	// Two centroids beyond the points: both clusters start empty and take the farthest points.
	a = cluster(t, backends.KMeans{X: []float32{0, 1, 2, 10, 11, 20}, N: 6, D: 1, K: 3, Initial: []float32{1, 1e6, 2e6}})
	if slices.Contains(a.Counts, 0) || a.Inertia > 2.6 {
		t.Errorf("empty clusters: counts %v, inertia %v", a.Counts, a.Inertia)
	}
}

func TestKMeansIsDeterministic(t *testing.T) {
	const n, d, k = 10_000, 4, 9
	x := blobs(n, d, 30, 0)
	a := cluster(t, backends.KMeans{X: x, N: n, D: d, K: k, Seed: 5, Tol: 1e-4})
	b := cluster(t, backends.KMeans{X: x, N: n, D: d, K: k, Seed: 5, Tol: 1e-4})
	if diff := cmp.Diff(a.Centroids, b.Centroids); diff != "" || a.Inertia != b.Inertia {
		t.Errorf("two runs differ: %s", diff)
	}
	c := cluster(t, backends.KMeans{X: x, N: n, D: d, K: k, Seed: 6, Tol: 1e-4})
	if cmp.Equal(a.Centroids, c.Centroids) {
		t.Error("two seeds gave the same centroids")
	}
}

func TestKMeansRefusesRange(t *testing.T) {
	a := backends.KMeans{X: []float32{3e38, -3e38, 0, 1}, N: 4, D: 1, K: 2, MaxIter: 5, Labels: make([]int32, 4), Centroids: make([]float32, 2), Counts: make([]int64, 2)}
	if err := (Backend{}).KMeans(context.Background(), backends.Kernel{}, &a); !errors.Is(err, backends.ErrRange) {
		t.Errorf("%v, want ErrRange", err)
	}
}

func TestKMeansStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	x := normals(2000 * 8)
	a := backends.KMeans{X: x, N: 2000, D: 8, K: 50, MaxIter: 1000, Labels: make([]int32, 2000), Centroids: make([]float32, 400), Counts: make([]int64, 50)}
	a.Progress = func(it int, _ int64) {
		if it == 2 {
			cancel()
		}
	}
	if err := (Backend{}).KMeans(ctx, backends.Kernel{}, &a); !errors.Is(err, context.Canceled) || a.Iterations != 2 {
		t.Errorf("%v after %d iterations, want Canceled after 2", err, a.Iterations)
	}
}
