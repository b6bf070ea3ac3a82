// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
)

// fitted runs a fit and writes down all of it, and that more scores were computed than there are, or by the kernel that computes each, fewer.
func fitted(b backends.Backend, k backends.Kernel, a backends.KMeans, watched bool) string {
	a.Labels, a.Centroids, a.Counts = make([]int32, a.N), make([]float32, a.K*a.D), make([]int64, a.K)
	var heard []int64
	if watched {
		a.Progress = func(iteration int, changed int64) { heard = append(heard, int64(iteration), changed) }
	}
	err := b.KMeans(context.Background(), k, &a)
	if err == nil && b.Name() != "cpu" && (a.Exact > 1 || k.Name == "cuda" && a.Exact != 1) {
		return fmt.Sprint("the share of exact scores is ", a.Exact)
	}
	return fmt.Sprint(err, a.Labels, a.Centroids, a.Counts, a.Inertia, a.Iterations, a.Converged, heard)
}

// Whole iterations on the device, one after the other or one a call because each is listened to, are those of pure Go: with every option, with clusters that become empty on the way,
// to convergence and to any limit before it.
func TestIterationsOnDevice(t *testing.T) {
	b := device(t)
	r := rand.New(rand.NewPCG(7, 8))
	iterations, converged := map[int]bool{}, 0
	for _, shape := range [][3]int{{300, 5, 12}, {260, 33, 40}, {280, 64, 130}, {30, 4100, 3}, {200, 2, 80}} {
		n, d, k := shape[0], shape[1], shape[2]
		x, weights := make([]float32, n*d), make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64()) + float32(i/d%7)
		}
		for i := range weights {
			weights[i] = float32(r.IntN(4)) / 2
		}
		far := slices.Clone(x[:k*d])
		for i := range far[d : 3*d] {
			far[d+i] += 1e3 // nearest to no point
		}
		for variant := range 16 {
			a := backends.KMeans{X: x, N: n, D: d, K: k, Seed: uint64(n), MaxIter: []int{1, 7, 8, 9, 17, 60}[variant%6], Cosine: variant&1 != 0}
			if variant&2 != 0 {
				a.Weights = weights
			}
			if variant&4 != 0 {
				a.Initial = far
			}
			if variant&8 != 0 {
				a.Tol = 3e-3
			}
			watched := variant%3 == 1
			want := fitted(cpu.Backend{}, backends.Kernel{}, a, watched)
			for _, kernel := range b.Kernels() {
				if kernel.Op != backends.OpKMeans || kernel.Fast {
					continue
				}
				if got := fitted(b, kernel, a, watched); got != want {
					t.Errorf("%s variant %d, %s, watched %v: not the bits of pure Go", a.Shape(), variant, kernel.Name, watched)
				}
			}
			a.Labels, a.Centroids, a.Counts = make([]int32, n), make([]float32, k*d), make([]int64, k)
			if err := (cpu.Backend{}).KMeans(context.Background(), backends.Kernel{}, &a); err != nil {
				t.Fatal(err)
			}
			iterations[a.Iterations] = true
			if a.Converged {
				converged++
			}
		}
	}
	if len(iterations) < 8 || converged < 8 {
		t.Errorf("the cases are too much alike: iterations %v, %d converged", iterations, converged)
	}
}

// The centres that k-means++ draws on the device are those of pure Go: of rows in many chunks, of which most have no weight, and where there are fewer different rows than centres.
func TestSeedsOnDevice(t *testing.T) {
	b := device(t)
	r := rand.New(rand.NewPCG(11, 12))
	for _, shape := range [][3]int{{13_000, 2, 9}, {4096, 3, 7}, {4097, 4, 7}, {500, 7, 300}, {9, 5, 9}} {
		n, d, k := shape[0], shape[1], shape[2]
		for _, kind := range []string{"different", "few different", "all the same"} {
			x, weights := make([]float32, n*d), make([]float32, n)
			for i := range x {
				switch x[i] = float32(r.NormFloat64()); kind {
				case "few different":
					x[i] = float32(i / d % 5 * (1 + i%d))
				case "all the same":
					x[i] = 3
				}
			}
			for i := range weights {
				weights[i] = float32(max(0, r.IntN(40)-35))
			}
			weights[n-1] = 0.7
			for _, variant := range []string{"", "weights", "cosine"} {
				a := backends.KMeans{X: x, N: n, D: d, K: k, Seed: r.Uint64(), MaxIter: 1}
				switch variant {
				case "weights":
					a.Weights = weights
				case "cosine":
					a.Cosine = true
				}
				want := fitted(cpu.Backend{}, backends.Kernel{}, a, false)
				for _, kernel := range b.Kernels() {
					if kernel.Op == backends.OpKMeans && kernel.Name == "cuda" && fitted(b, kernel, a, false) != want {
						t.Errorf("%s, %s, %s: not the bits of pure Go", a.Shape(), kind, variant)
					}
				}
			}
		}
	}
}

// A fit ends when its context does, be it that somebody who listens ends it.
func TestIterationsEndWithTheirContext(t *testing.T) {
	b := device(t)
	r := rand.New(rand.NewPCG(9, 10))
	x := make([]float32, 5000*4)
	for i := range x {
		x[i] = r.Float32()
	}
	for _, kernel := range b.Kernels() {
		if kernel.Op != backends.OpKMeans {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		heard := 0
		a := backends.KMeans{X: x, N: 5000, D: 4, K: 40, MaxIter: 1000, Labels: make([]int32, 5000), Centroids: make([]float32, 160), Counts: make([]int64, 40)}
		a.Progress = func(iteration int, _ int64) {
			if heard = iteration; iteration == 3 {
				cancel()
			}
		}
		if err := b.KMeans(ctx, kernel, &a); !errors.Is(err, context.Canceled) || heard != 3 {
			t.Errorf("%s: %v after %d iterations", kernel.Name, err, heard)
		}
		cancel()
	}
}
