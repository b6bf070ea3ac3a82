// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
)

// clusterings does every kind of fit and returns what they say.
func clusterings(t *testing.T, rt *Runtime, dim int, weights []float32, fit func(KMeansOptions) (*Clustering, error)) (said []string) {
	t.Helper()
	for _, o := range []KMeansOptions{{}, {Weights: weights}, {Distance: Cosine}, {Batch: 20, Tol: 1e-3}, {Tol: 0.01, SkipNonFinite: true}} {
		o.K, o.Seed, o.MaxIter = 4, 9, 6
		c, err := fit(o)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, fmt.Sprintf("%+v", *c))
	}
	return said
}

// Points that calls have left on a device are clustered there, whole mapped slices and parts of them, with the bits of those at home, and nothing of them is copied.
func TestMappedKMeans(t *testing.T) {
	const n, dim, skip = 180, 5, 100
	data := func() (x, w []float32) {
		x, _ = rays(n+skip/dim, dim, 4)
		w = make([]float32, n)
		for i := range w {
			w[i] = float32(i%5) + 1
		}
		return x, w
	}
	pure := open(t, WithoutNative())
	x, w := data()
	if _, _, err := pure.Constrain(x, x, 10); err != nil {
		t.Fatal(err)
	}
	want := clusterings(t, pure, dim, w, func(o KMeansOptions) (*Clustering, error) { return pure.KMeans(t.Context(), nil, x[skip:], dim, o) })
	for _, factor := range []float64{100, 0.1} {
		rt, g := onGPU(t, factor)
		g.Stale = true
		y, v := data()
		for _, s := range [][]float32{y, v} {
			if _, err := rt.Map(s); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := rt.Constrain(y, y, 10); err != nil { // with the device preferred its result is there alone
			t.Fatal(err)
		}
		up, down, calls := g.Up, g.Down, g.Calls
		got := clusterings(t, rt, dim, v, func(o KMeansOptions) (*Clustering, error) { return rt.KMeans(t.Context(), nil, y[skip:], dim, o) })
		if !slices.Equal(got, want) {
			t.Errorf("factor %v:\n%.300s\n%.300s", factor, got, want)
		}
		onDevice := factor > 1
		if (g.Calls > calls) != onDevice {
			t.Errorf("factor %v: %d calls on the device", factor, g.Calls-calls)
		}
		if onDevice && (g.Up != up+len(v) || g.Down != down) { // the weights, once
			t.Errorf("%d values went up, %d down", g.Up-up, g.Down-down)
		}
		if err := rt.Home(y); err != nil || !slices.Equal(x, y) {
			t.Errorf("factor %v: the points have changed (%v)", factor, err)
		}
	}
}

// Values that are not finite are found in points on a device, and left out when that is wanted; the rest of the runtime goes on.
func TestMappedKMeansNotFinite(t *testing.T) {
	const n, dim = 60, 4
	pure := open(t, WithoutNative())
	rt, g := onGPU(t, 100)
	x, _ := rays(n, dim, 3)
	x[17*dim+1] = float32(math.NaN())
	o := KMeansOptions{K: 3, Seed: 2}
	_, plain := pure.KMeans(t.Context(), nil, x, dim, o)
	o.SkipNonFinite = true
	want, err := pure.KMeans(t.Context(), nil, x, dim, o)
	if err != nil || want.Skipped != 1 {
		t.Fatalf("%+v, %v", want, err)
	}
	if _, err := rt.Map(x); err != nil {
		t.Fatal(err)
	}
	got, err := rt.KMeans(t.Context(), nil, x, dim, o)
	if err != nil || fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", *want) {
		t.Errorf("%+v instead of %+v (%v)", got, want, err)
	}
	o.SkipNonFinite = false
	if _, err := rt.KMeans(t.Context(), nil, x, dim, o); !errors.Is(err, ErrNonFinite) || !errors.Is(plain, ErrNonFinite) {
		t.Errorf("%v instead of %v", err, plain)
	}
	if g.Calls < 2 {
		t.Errorf("%d calls on the device", g.Calls)
	}
}

// A Buffer's points, and a failing device: the processor has them where they are at home, too.
func TestBufferKMeans(t *testing.T) {
	const n, dim = 180, 5
	x, _ := rays(n, dim, 4)
	pure := open(t, WithoutNative())
	w := slices.Repeat([]float32{1, 2, 3}, n/3)
	want := clusterings(t, pure, dim, w, func(o KMeansOptions) (*Clustering, error) { return pure.KMeans(t.Context(), nil, x, dim, o) })
	for _, factor := range []float64{100, 1.0005, 0.1} {
		rt, g := onGPU(t, factor)
		b := filled(t, rt, x)
		got := clusterings(t, rt, dim, w, func(o KMeansOptions) (*Clustering, error) { return b.KMeans(t.Context(), nil, dim, o) })
		if !slices.Equal(got, want) {
			t.Errorf("factor %v:\n%.300s\n%.300s", factor, got, want)
		}
		if factor == 100 && (g.Up != len(x) || g.Down != 0) { // what is the program's goes with the calls
			t.Errorf("%d values went up, %d down", g.Up, g.Down)
		}
		g.Fails = ErrBackend
		c, err := b.KMeans(t.Context(), nil, dim, KMeansOptions{K: 4, Seed: 9, MaxIter: 6})
		if err != nil || fmt.Sprintf("%+v", *c) != want[0] {
			t.Errorf("factor %v, on a device that fails: %v", factor, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if _, err := b.KMeans(t.Context(), nil, dim, KMeansOptions{K: 2}); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed one: %v", err)
		}
	}
}
