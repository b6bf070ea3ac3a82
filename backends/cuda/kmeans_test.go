// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
)

// Points and weights that lie on the device are clustered there: the slice beside them holds other values, and the result is that of pure Go. What is not finite is named as pure Go names it.
func TestPointsOnDevice(t *testing.T) {
	b := device(t)
	d := backends.DeviceOf(b)
	const n, dim, k = 700, 5, 9
	r := rand.New(rand.NewPCG(5, 6))
	points, weights := make([]float32, n*dim), make([]float32, n)
	for i := range points {
		points[i] = float32(r.NormFloat64()) + 2
	}
	for i := range weights {
		weights[i] = r.Float32()
	}
	copy(points[dim:], slices.Repeat(points[:dim], 40)) // the same point many times
	far := slices.Concat(points[:(k-1)*dim], []float32{1e3, 1e3, 1e3, 1e3, 1e3})
	bad := slices.Clone(points)
	bad[303*dim+2] = float32(math.Inf(1))
	upload := func(x []float32, before int) backends.Address {
		at, err := d.Alloc(int64(4 * (len(x) + before)))
		if err == nil {
			err = d.Upload(at+backends.Address(4*before), backends.Bytes(x))
		}
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, c := range []struct {
		name string
		set  func(a *backends.KMeans)
	}{
		{"k-means++", func(*backends.KMeans) {}},
		{"weights", func(a *backends.KMeans) { a.Weights = weights }},
		{"cosine", func(a *backends.KMeans) { a.Cosine = true }},
		{"empty clusters", func(a *backends.KMeans) { a.Initial = far }},
		{"with a tolerance", func(a *backends.KMeans) { a.Tol, a.Weights = 1e-3, weights }},
		{"batches", func(a *backends.KMeans) { a.Batch, a.Tol, a.Weights = 100, 1e-3, weights }},
		{"a batch of as many rows", func(a *backends.KMeans) { a.Batch = n }},
		{"not finite", func(a *backends.KMeans) { a.X = bad }},
		{"not finite, cosine", func(a *backends.KMeans) { a.X, a.Cosine = bad, true }},
	} {
		blocks := func() *backends.KMeans {
			a := &backends.KMeans{X: points, N: n, D: dim, K: k, MaxIter: 8, Seed: 3, Labels: make([]int32, n), Centroids: make([]float32, k*dim), Counts: make([]int64, k)}
			c.set(a)
			return a
		}
		want := blocks()
		failed := (cpu.Backend{}).KMeans(context.Background(), backends.Kernel{}, want)
		for _, kernel := range b.Kernels() {
			if kernel.Op != backends.OpKMeans || kernel.Fast {
				continue
			}
			const before = 3 // values of the buffer that are not theirs
			a := blocks()
			buffers := []backends.Address{upload(a.X, before)}
			a.XAt = buffers[0] + 4*before
			a.X = make([]float32, len(a.X)) // the host's is another
			if a.Weights != nil {
				buffers = append(buffers, upload(a.Weights, 0))
				a.WeightsAt = buffers[1]
			}
			err := b.KMeans(context.Background(), kernel, a)
			if (err == nil) != (failed == nil) || err != nil && err.Error() != failed.Error() {
				t.Errorf("%s, %s: %v instead of %v", c.name, kernel.Name, err, failed)
			}
			if err == nil && (!slices.Equal(a.Labels, want.Labels) || !slices.Equal(a.Centroids, want.Centroids) || !slices.Equal(a.Counts, want.Counts) || fmt.Sprint(a.Inertia, a.Iterations, a.Converged) != fmt.Sprint(want.Inertia, want.Iterations, want.Converged)) {
				t.Errorf("%s, %s: not the bits of pure Go", c.name, kernel.Name)
			}
			for _, at := range buffers {
				if err := d.Free(at); err != nil { // also says that the run has not freed it
					t.Error(err)
				}
			}
		}
	}
	if i, err := d.Info(); err != nil || i.Lost != 0 {
		t.Errorf("%+v, %v", i, err)
	}
}
