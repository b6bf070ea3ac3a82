// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/backends/cuda"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/runtime"
)

// kmeansKernels lists the kernels of k-means.
func kmeansKernels(b backends.Backend) []backends.Kernel {
	return slices.DeleteFunc(slices.Clone(b.Kernels()), func(k backends.Kernel) bool { return k.Op != backends.OpKMeans })
}

// fit is a fit with all that comes of it in words.
func fit(ctx context.Context, b backends.Backend, k backends.Kernel, a backends.KMeans, set func(a *backends.KMeans)) (string, error) {
	a.Labels, a.Centroids, a.Counts = make([]int32, a.N), make([]float32, a.K*a.D), make([]int64, a.K)
	if set != nil {
		set(&a)
	}
	err := b.KMeans(ctx, k, &a)
	return fmt.Sprint(a.Labels, a.Centroids, a.Counts, a.Inertia, a.Iterations, a.Converged), err
}

// crowd is more points than little has room for.
func crowd(n, dim, k int) backends.KMeans {
	d := &data{r: random(21)}
	a := backends.KMeans{X: values(d, n*dim), N: n, D: dim, K: k, Seed: 5, MaxIter: 4}
	for i := range a.X {
		a.X[i] += float32(i / dim % 7)
	}
	return a
}

// Fits whose points the device has no room for are those of pure Go, with every option; so are those whose points lie on the device, when it has no room for what goes with them.
func TestKMeansInPieces(t *testing.T) {
	faking(t)
	odd, even := crowd(9000, 17, 6), crowd(8000, 24, 9)
	weights := make([]float32, odd.N)
	for i := range weights {
		weights[i] = float32(i%9) / 8
	}
	far := func(a *backends.KMeans) { // the last two are nearest to no point
		a.Initial = slices.Clone(a.X[:a.K*a.D])
		for i := range a.Initial[(a.K-2)*a.D:] {
			a.Initial[(a.K-2)*a.D+i] += 1e3
		}
	}
	for _, c := range []struct {
		name string
		a    backends.KMeans
		set  func(a *backends.KMeans)
	}{
		{"L2", odd, nil},
		{"in quads", even, nil},
		{"cosine", odd, func(a *backends.KMeans) { a.Cosine = true }},
		{"cosine, weights and a tolerance", odd, func(a *backends.KMeans) { a.Cosine, a.Weights, a.Tol, a.MaxIter = true, weights, 1e-2, 20 }},
		{"weights", odd, func(a *backends.KMeans) { a.Weights = weights }},
		{"to the end", crowd(7000, 17, 2), func(a *backends.KMeans) { a.MaxIter = 40 }},
		{"given centroids, two empty", odd, far},
		{"given centroids, two empty, weights", odd, func(a *backends.KMeans) { far(a); a.Weights = weights }},
		{"batches", even, func(a *backends.KMeans) { a.Batch, a.Tol = 700, 1e-3 }},
		{"batches that do not fit either", odd, func(a *backends.KMeans) { a.Batch = 8000 }},
	} {
		want, err := fit(t.Context(), cpu.Backend{}, backends.Kernel{}, c.a, c.set)
		if err != nil {
			t.Fatal(err)
		}
		b := mustOpen(t)
		d := backends.DeviceOf(b)
		for _, k := range kmeansKernels(b) {
			fake.memory(little)
			if got, err := fit(t.Context(), b, k, c.a, c.set); err != nil || got != want {
				t.Errorf("%s, %s: %v, or not the bits of pure Go", c.name, k.Name, err)
			}
			fake.memory(256 << 20)
			if c.a.D == 24 || k.Name == "screen" && c.a.Weights == nil {
				continue
			}
			at, err := d.Alloc(int64(4 * len(c.a.X)))
			if err == nil {
				err = d.Upload(at, backends.Bytes(c.a.X))
			}
			if err != nil {
				t.Fatal(err)
			}
			resident := c.a
			resident.XAt, resident.X = at, slices.Clone(c.a.X)
			fake.memory(uint64(4*len(c.a.X) + 100_000))
			if got, err := fit(t.Context(), b, k, resident, c.set); err != nil || got != want {
				t.Errorf("%s, %s, points in a buffer: %v, or not the bits of pure Go", c.name, k.Name, err)
			}
			if err := d.Free(at); err != nil {
				t.Error(err)
			}
			fake.memory(256 << 20)
		}
		closed(t, c.name, b)
	}
}

// Shapes, options and sizes of memory by chance: the bits of pure Go, or out of memory where the centroids take most of that.
func TestRandomKMeansInPieces(t *testing.T) {
	faking(t)
	done, refused := 0, 0
	b := mustOpen(t)
	for seed := range uint64(40) {
		d := &data{r: random(100 + seed)}
		a := backends.KMeans{N: 1000 + d.r.IntN(4000), D: 1 + d.r.IntN(40), K: 1 + d.r.IntN(20), MaxIter: 1 + d.r.IntN(4), Seed: seed, Cosine: d.r.IntN(3) == 0}
		a.X = values(d, a.N*a.D)
		for i := range a.X {
			a.X[i] += float32(i / a.D % 5)
		}
		if d.r.IntN(2) == 0 {
			a.Weights = make([]float32, a.N)
			for i := range a.Weights {
				a.Weights[i] = d.r.Float32()
			}
		}
		if d.r.IntN(2) == 0 {
			a.Initial = slices.Clone(a.X[:a.K*a.D])
		}
		if d.r.IntN(3) == 0 {
			a.Batch = 1 + d.r.IntN(a.N)
		}
		a.Tol = float64(d.r.IntN(2)) * 1e-4
		want, err := fit(t.Context(), cpu.Backend{}, backends.Kernel{}, a, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range kmeansKernels(b) {
			memory := 10_000 + 4*a.N*a.D/(2+d.r.IntN(6))
			fake.memory(uint64(memory))
			switch got, err := fit(t.Context(), b, k, a, nil); {
			case err == nil && got == want:
				done++
			case errors.Is(err, backends.ErrMemory) && memory < 10*4*a.K*a.D+40_000:
				refused++
			default:
				t.Errorf("seed %d, %s, %s, %d bytes: %v, or not the bits of pure Go", seed, a.Shape(), k.Name, memory, err)
			}
		}
	}
	if t.Logf("%d fits done, %d refused", done, refused); done < 4*refused {
		t.Error("too much was refused")
	}
	fake.memory(256 << 20)
	closed(t, "by chance", b)
}

// The kernel that is not exact gives in pieces what it gives at once.
func TestFastKMeansInPieces(t *testing.T) {
	faking(t)
	list, tried := cuda.Open([]plugin.Place{{Path: folder(), Origin: "test"}}, []int{0}, cuda.Fast{Wanted: true})
	if len(list) == 0 {
		t.Fatalf("%+v", tried)
	}
	b := list[0]
	kernels := kmeansKernels(b)
	k := kernels[slices.IndexFunc(kernels, func(k backends.Kernel) bool { return k.Fast })]
	a := crowd(8000, 24, 9)
	want, err := fit(t.Context(), b, k, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	fake.memory(little)
	if got, err := fit(t.Context(), b, k, a, nil); err != nil || got != want {
		t.Errorf("%v, or another result", err)
	}
	fake.memory(256 << 20)
	closed(t, "fast", b)
}

// A pass takes all points up, once: ranges, means, a centre of k-means++ each, an iteration each, the last labels, and distances to them. Beside that rows have labels or distances, and passes what has the size
// of the centroids.
func TestKMeansInPiecesGoesUpOnceAPass(t *testing.T) {
	faking(t)
	a := crowd(20_000, 40, 5)
	b := mustOpen(t)
	for _, k := range kmeansKernels(b) {
		for _, iterations := range []int{1, 4} {
			a.MaxIter = iterations
			fake.memory(little) // of 3.2 MB
			before := fake.uploaded()
			if _, err := fit(t.Context(), b, k, a, func(a *backends.KMeans) { a.Progress = func(n int, _ int64) { iterations = n } }); err != nil || iterations != a.MaxIter {
				t.Fatal(err, iterations)
			}
			passes := 2 + a.K + iterations + 2
			points, up := 4*len(a.X)*passes, fake.uploaded()-before
			if most := points + passes*(4*a.N+16*a.K*a.D) + points/100; up < points || up > most {
				t.Errorf("%s, %d iterations: %d bytes went up for %d passes over %d", k.Name, iterations, up, passes, 4*len(a.X))
			}
		}
	}
	fake.memory(256 << 20)
	closed(t, "once a pass", b)
}

// What is not finite is named as pure Go names it; so is a row without a direction.
func TestKMeansInPiecesNotFinite(t *testing.T) {
	faking(t)
	b := mustOpen(t)
	fake.memory(little)
	for _, c := range []struct {
		name string
		set  func(a *backends.KMeans)
	}{
		{"late", func(a *backends.KMeans) { a.X[8321*a.D+3], a.X[8900*a.D+1] = float32(math.NaN()), float32(math.Inf(1)) }},
		{"cosine", func(a *backends.KMeans) { a.X[8321*a.D+3], a.Cosine = float32(math.Inf(-1)), true }},
		{"no direction", func(a *backends.KMeans) { clear(a.X[7000*a.D : 7001*a.D]); a.Cosine = true }},
		{"too far", func(a *backends.KMeans) { a.X[8000*a.D] = 3e38 }},
	} {
		a := crowd(9000, 17, 6)
		c.set(&a)
		_, want := fit(t.Context(), cpu.Backend{}, backends.Kernel{}, a, nil)
		for _, k := range kmeansKernels(b) {
			if _, err := fit(t.Context(), b, k, a, nil); want == nil || err == nil || err.Error() != want.Error() {
				t.Errorf("%s, %s: %v instead of %v", c.name, k.Name, err, want)
			}
		}
	}
	fake.memory(256 << 20)
	closed(t, "not finite", b)
}

// Memory that runs out once, anywhere, does not end a fit; where there is hardly any, it ends with out of memory. Kernels that fail in the midst of a pass are typed errors. Nothing is left of any of these.
func TestKMeansInPiecesFails(t *testing.T) {
	faking(t)
	a := crowd(7000, 17, 3)
	a.MaxIter = 2
	want, err := fit(t.Context(), cpu.Backend{}, backends.Kernel{}, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	opened := mustOpen(t)
	kernels := kmeansKernels(opened)
	closed(t, "", opened)
	list := []int{1, 4, 15, 40, 77}
	if testing.Short() {
		list = list[1:3]
	}
	for _, k := range kernels {
		failed, right := 0, 0
		for _, name := range []string{"cuMemAlloc_v2", "cuLaunchKernel", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "kmeans_range", "kmeans_mean", "kmeans_distance_any", "kmeans_add", "kmeans_relabel"} {
			for _, nth := range list {
				for _, code := range []int32{2, 719} {
					b := mustOpen(t)
					fake.memory(little)
					fake.fault(name, nth, code)
					got, err := fit(t.Context(), b, k, a, nil)
					fake.fault(name, 0, 0)
					where := fmt.Sprintf("%s, %s:%d:%d", k.Name, name, nth, code)
					switch {
					case err == nil && got != want:
						t.Errorf("%s: not the bits of pure Go", where)
					case err != nil && !typed(err):
						t.Errorf("%s: %v", where, err)
					case err != nil && name == "cuMemAlloc_v2" && code == 2:
						t.Errorf("%s: %v", where, err)
					}
					if err != nil {
						failed++
					} else {
						right++
					}
					fake.memory(256 << 20)
					closed(t, where, b)
				}
			}
		}
		if t.Logf("%s: %d fits failed, %d were right", k.Name, failed, right); failed == 0 || right == 0 {
			t.Errorf("%s: the faults are too much alike", k.Name)
		}
		for _, name := range []string{"cuStreamCreate", "cuMemAllocHost_v2"} { // a lane that has no memory has not looked at the call: nothing can be said of pieces
			for nth := 1; nth <= 3; nth++ {
				b := mustOpen(t)
				fake.memory(little)
				fake.fault(name, nth, 2)
				got, err := fit(t.Context(), b, k, a, nil)
				fake.fault(name, 0, 0)
				if err == nil && got != want || err != nil && !errors.Is(err, backends.ErrMemory) {
					t.Errorf("%s, %s:%d: %v, or not the bits of pure Go", k.Name, name, nth, err)
				}
				fake.memory(256 << 20)
				closed(t, name, b)
			}
		}
		b := mustOpen(t)
		fake.memory(3000)
		if _, err := fit(t.Context(), b, k, a, nil); !errors.Is(err, backends.ErrMemory) {
			t.Errorf("%s: with 3000 bytes: %v", k.Name, err)
		}
		fake.memory(256 << 20)
		closed(t, "3000 bytes", b)
	}
}

// A fit in pieces ends with its context: between two pieces, not at the end of a pass.
func TestKMeansInPiecesCancelled(t *testing.T) {
	faking(t)
	a := crowd(60_000, 17, 6) // a pass has dozens of pieces
	a.MaxIter = 1000
	b := mustOpen(t)
	fake.memory(little)
	k := kmeansKernels(b)[0]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	before, seen := fake.launches(), 0
	go func() {
		_, err := fit(ctx, b, k, a, nil)
		done <- err
	}()
	for err := error(nil); ; {
		select {
		case err = <-done:
		default:
			if n := fake.launches(); seen == 0 && n > before+60 {
				cancel()
				seen = n
			}
			continue
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the fit ended with %v", err)
		}
		break
	}
	fake.memory(256 << 20)
	closed(t, "cancelled", b)
}

// Through the runtime points that are not finite are left out, and the device serves the others in pieces; a device that fails half-way leaves the processor's answer.
func TestKMeansInPiecesThroughRuntime(t *testing.T) {
	faking(t)
	a := crowd(9000, 17, 6)
	a.X[8000*a.D+5] = float32(math.NaN())
	o := runtime.KMeansOptions{K: a.K, MaxIter: 4, Seed: 5, SkipNonFinite: true}
	pure, err := runtime.Open(runtime.WithoutNative(), runtime.WithProfile(""))
	if err != nil {
		t.Fatal(err)
	}
	defer pure.Close()
	want, err := pure.KMeans(t.Context(), nil, a.X, a.D, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, nth := range []int{0, 40, 120} { // 0: none fails
		rt := routed(t)
		fake.memory(little)
		before := fake.launches()
		fake.fault("cuLaunchKernel", nth, 719)
		got, err := rt.KMeans(t.Context(), nil, a.X, a.D, o)
		fake.fault("cuLaunchKernel", 0, 0)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("launch %d: %v, or another result", nth, err)
		}
		if n := fake.launches() - before; nth == 0 && n < 120 || n < nth/2 {
			t.Errorf("launch %d: the device ran %d kernels", nth, n)
		}
		fake.memory(256 << 20)
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	}
}
