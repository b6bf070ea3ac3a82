// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"errors"
	"testing"

	"github.com/setun-compute/setun/backends"
)

// calledWith is how often a fit calls a function of the driver.
func calledWith(t *testing.T, function string, kernel backends.Kernel, k, iterations int) int {
	t.Helper()
	const n, d = 500, 3
	a := backends.KMeans{N: n, D: d, K: k, MaxIter: iterations, Seed: 4, Labels: make([]int32, n), Centroids: make([]float32, k*d), Counts: make([]int64, k), X: make([]float32, n*d)}
	for i := range a.X {
		a.X[i] = float32(i*i%1009) / 7
	}
	for nth := 1; nth < 1000; nth++ {
		b := mustOpen(t)
		fake.fault(function, nth, 1)
		err := b.KMeans(t.Context(), kernel, &a)
		fake.fault(function, 0, 0)
		closed(t, function, b)
		if err == nil {
			if a.Iterations != iterations {
				t.Fatalf("the fit had %d iterations, not %d", a.Iterations, iterations)
			}
			return nth - 1
		}
	}
	t.Fatalf("%s is called without end", function)
	return 0
}

// The centres of k-means++ and iterations need nothing from the host: more of them bring up nothing more, and down, of iterations, a record for every eight, or for each two where scores are screened, which takes a look at how many rows are unsure.
func TestIterationsStayOnTheDevice(t *testing.T) {
	faking(t)
	b := mustOpen(t)
	kernels := b.Kernels()
	closed(t, "", b)
	for _, kernel := range kernels {
		if kernel.Op != backends.OpKMeans || kernel.Fast {
			continue
		}
		const few, many = 1, 9
		most := (many - few) / 8
		if kernel.Name == "screen" {
			most = 2 * (many - few)
		}
		if up := calledWith(t, "cuMemcpyHtoDAsync_v2", kernel, 9, many) - calledWith(t, "cuMemcpyHtoDAsync_v2", kernel, 9, few); up != 0 {
			t.Errorf("%s: %d iterations more take %d copies to the device more", kernel.Name, many-few, up)
		}
		if down := calledWith(t, "cuMemcpyDtoHAsync_v2", kernel, 9, many) - calledWith(t, "cuMemcpyDtoHAsync_v2", kernel, 9, few); down > most {
			t.Errorf("%s: %d iterations more take %d copies from the device more, %d would do", kernel.Name, many-few, down, most)
		}
		for _, function := range []string{"cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"} {
			if more := calledWith(t, function, kernel, 9, 1) - calledWith(t, function, kernel, 3, 1); more != 0 {
				t.Errorf("%s: six centres more of k-means++ call %s %d times more", kernel.Name, function, more)
			}
		}
	}
}

// A kernel that fails in the midst of a fit's calls takes the device with it: an error that says so and nothing left, and to who asked the runtime, the processor's answer.
func TestFitsFailHalfWay(t *testing.T) {
	faking(t)
	b := mustOpen(t)
	kernels := b.Kernels()
	closed(t, "", b)
	for _, kernel := range kernels {
		if kernel.Op != backends.OpKMeans || kernel.Fast {
			continue
		}
		names := []string{"kmeans_pick", "kmeans_look", "kmeans_move", "kmeans_shift", "kmeans_still"}
		if kernel.Name == "screen" {
			names = append(names, "screen_reach", "screen_terms")
		}
		for _, name := range names {
			const n, d, k = 400, 3, 6
			a := backends.KMeans{N: n, D: d, K: k, MaxIter: 5, Tol: 1e-9, Labels: make([]int32, n), Centroids: make([]float32, k*d), Counts: make([]int64, k), X: make([]float32, n*d)}
			for i := range a.X {
				a.X[i] = float32(i*i%1009) / 7
			}
			b := mustOpen(t)
			fake.fault(name, 2, 719)
			if err := b.KMeans(t.Context(), kernel, &a); !errors.Is(err, backends.ErrLost) || !typed(err) {
				t.Errorf("%s, %s: %v", kernel.Name, name, err)
			}
			fake.fault(name, 0, 0)
			closed(t, name, b)
		}
	}
	for _, c := range short() {
		if c.kind == "cuda" && c.name == "kmeans" {
			lost(t, c, "719", func() { fake.fault("kmeans_move", 3, 719) }, func() { fake.fault("kmeans_move", 0, 0) })
		}
	}
}
