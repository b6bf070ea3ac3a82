// SPDX-License-Identifier: Apache-2.0

package cpp

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
)

// clusterers are the library's kernels of k-means on up to three threads.
func clusterers(t *testing.T) (backends.Backend, []backends.Kernel) {
	t.Helper()
	b, tried := Open(built(t), "", func(threads int) bool { return threads <= 3 })
	if b == nil {
		t.Fatalf("%+v", tried)
	}
	t.Cleanup(func() { b.Close() })
	all := slices.DeleteFunc(slices.Clone(b.Kernels()), func(k backends.Kernel) bool { return k.Op != backends.OpKMeans })
	if len(all) < 3 {
		t.Fatalf("%d kernels of k-means: %v", len(all), all)
	}
	return b, all
}

func problem(x []float32, d, k int) *backends.KMeans {
	n := len(x) / d
	return &backends.KMeans{X: x, N: n, D: d, K: k, Initial: x[:k*d], MaxIter: 20,
		Labels: make([]int32, n), Centroids: make([]float32, k*d), Counts: make([]int64, k)}
}

func TestTwentyMillionIdenticalRowsCountRight(t *testing.T) {
	if testing.Short() {
		t.Skip("160 MB and some seconds")
	}
	b, kernels := clusterers(t)
	const n, d = 20_000_000, 2
	x := make([]float32, n*d)
	for i := range n {
		x[d*i], x[d*i+1] = 0.1, -3
	}
	x[0], x[1] = 1000, 5 // one other: without it every centred value would be 0
	for _, k := range kernels {
		a := problem(x, d, 2)
		if err := b.KMeans(context.Background(), k, a); err != nil {
			t.Fatalf("%s: %v", k.Name, err)
		}
		if !slices.Equal(a.Counts, []int64{1, n - 1}) || !slices.Equal(a.Centroids, []float32{1000, 5, 0.1, -3}) || a.Inertia != 0 || !a.Converged {
			t.Errorf("%s: counts %v, centroids %v, inertia %v, converged %v", k.Name, a.Counts, a.Centroids, a.Inertia, a.Converged)
		}
	}
}

// A context that ends between iterations or in the midst of one ends the call before another is done, and the pool does the next call as if nothing had been.
func TestCancelLeavesThePoolClean(t *testing.T) {
	b, kernels := clusterers(t)
	const n, d, c = 60_000, 64, 128
	x := make([]float32, n*d)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	want := problem(x, d, c)
	want.MaxIter = 3 // of many: noise without clusters does not settle
	if err := b.KMeans(context.Background(), kernels[0], want); err != nil {
		t.Fatal(err)
	}
	threads := runtime.NumGoroutine()
	for _, k := range kernels {
		for _, wait := range []time.Duration{0, time.Millisecond} { // an iteration takes several
			ctx, cancel := context.WithCancel(context.Background())
			a := problem(x, d, c)
			var done, ended atomic.Int64
			a.Progress = func(iteration int, _ int64) {
				if done.Store(int64(iteration)); iteration != 2 {
					return
				}
				end := func() {
					time.Sleep(wait)
					ended.Store(done.Load())
					cancel()
				}
				if wait == 0 {
					end()
				} else {
					go end()
				}
			}
			if err := b.KMeans(ctx, k, a); !errors.Is(err, context.Canceled) || done.Load() > ended.Load()+1 || wait == 0 && done.Load() > 2 {
				t.Errorf("%s: %v after iteration %d, ended after %d", k.Name, err, done.Load(), ended.Load())
			}
			got := problem(x, d, c)
			got.MaxIter = 3
			if err := b.KMeans(context.Background(), k, got); err != nil {
				t.Fatalf("%s after a cancelled call: %v", k.Name, err)
			}
			if got.Inertia != want.Inertia || !slices.Equal(got.Labels, want.Labels) || !slices.Equal(got.Centroids, want.Centroids) {
				t.Errorf("%s after a cancelled call: inertia %v, not %v", k.Name, got.Inertia, want.Inertia)
			}
		}
	}
	if now := runtime.NumGoroutine(); now > threads {
		t.Errorf("%d goroutines, %d before", now, threads)
	}
}

// Beyond its input and its outputs k-means takes at most 16 bytes a row, the centroids a few times, and the sums of each thread.
func TestKMeansMemory(t *testing.T) {
	b, kernels := clusterers(t)
	if testing.Short() {
		kernels = kernels[:1]
	}
	const n, d, c = 1_000_000, 8, 64
	x := make([]float32, n*d)
	r := rand.New(rand.NewPCG(7, 8))
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	for _, k := range kernels {
		for _, seeded := range []bool{false, true} {
			a := problem(x, d, c)
			if a.MaxIter = 3; seeded {
				a.Initial = nil // k-means++
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if err := b.KMeans(context.Background(), k, a); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			limit := 16*n + 8*c*d*(8+2*k.Threads) + 1<<18*(1+k.Threads)
			if took := after.TotalAlloc - before.TotalAlloc; took > uint64(limit) {
				t.Errorf("%s, k-means++ %v: %d bytes, %.1f a row; at most %d", k.Name, seeded, took, float64(took)/n, limit)
			} else {
				t.Logf("%s, k-means++ %v: %.2f bytes a row", k.Name, seeded, float64(took)/n)
			}
		}
	}
}
