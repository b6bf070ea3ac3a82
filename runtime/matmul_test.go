// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// TestMatMulBadInput: each is a typed error that names the argument and its value, and the destination stays as it was.
func TestMatMulBadInput(t *testing.T) {
	rt := open(t)
	buffer, dst := ramp(64), []float32{7, 7, 7, 7, 7, 7}
	a, b := buffer[:6], buffer[32:44]
	for _, c := range []struct {
		name     string
		dst      []float32
		a, b     []float32
		m, n, k  int
		o        MatMulOptions
		sentinel error
		words    string
	}{
		{"m", dst, a, b, 0, 3, 3, MatMulOptions{}, ErrArgument, "m = 0"},
		{"n", dst, a, b, 2, -1, 3, MatMulOptions{}, ErrArgument, "n = -1"},
		{"k", dst, a, b, 2, 3, 0, MatMulOptions{}, ErrArgument, "k = 0"},
		{"batch", dst, a, b, 2, 3, 3, MatMulOptions{Batch: -1}, ErrArgument, "batch = -1"},
		{"short a", dst, a[:5], b, 2, 3, 3, MatMulOptions{}, ErrShape, "a has 5 values, 6 are needed"},
		{"no a", dst, nil, b, 2, 3, 3, MatMulOptions{}, ErrShape, "a has 0 values"},
		{"short b", dst, a, b[:8], 2, 3, 3, MatMulOptions{}, ErrShape, "b has 8 values, 9 are needed"},
		{"short dst", dst[:5], a, b, 2, 3, 3, MatMulOptions{}, ErrShape, "c has 5 values, 6 are needed"},
		{"lda", dst, a, b, 2, 3, 3, MatMulOptions{LDA: 2}, ErrArgument, "lda = 2"},
		{"ldb", dst, a, b, 1, 3, 4, MatMulOptions{TransB: true, LDB: 3}, ErrArgument, "ldb = 3"},
		{"ldc", dst, a, b, 2, 3, 3, MatMulOptions{LDC: -3}, ErrArgument, "ldc = -3"},
		{"stride", dst, a, b, 1, 3, 3, MatMulOptions{Batch: 2, StrideA: -1}, ErrArgument, "stride of a = -1"},
		{"overlapping products", dst, a, b, 1, 3, 3, MatMulOptions{Batch: 2, SharedB: true, StrideC: 2}, ErrArgument, "stride of c = 2"},
		{"large", nil, a, b, math.MaxInt, math.MaxInt, math.MaxInt, MatMulOptions{}, ErrShape, "a would have"},
		{"large batch", nil, a, b, 2, 3, 3, MatMulOptions{Batch: math.MaxInt}, ErrShape, "a would have"},
		{"large dst", nil, a, b, 1 << 30, 1 << 30, 1, MatMulOptions{}, ErrShape, "a has 6 values"},
		{"large ldc", nil, a, b, 2, 3, 3, MatMulOptions{LDC: math.MaxInt}, ErrShape, "c would have"},
		{"dst in a", buffer[5:11], a, b, 2, 3, 3, MatMulOptions{}, ErrAlias, "c overlaps a"},
		{"dst is b", b, a, b, 2, 3, 3, MatMulOptions{}, ErrAlias, "c overlaps b"},
	} {
		before := append(append([]float32(nil), buffer...), dst...)
		_, err := rt.MatMul(c.dst, c.a, c.b, c.m, c.n, c.k, c.o)
		var e *Error
		if !errors.Is(err, c.sentinel) || !errors.As(err, &e) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v; want %v with %q", c.name, err, c.sentinel, c.words)
		}
		if !slices.Equal(before, append(append([]float32(nil), buffer...), dst...)) {
			t.Errorf("%s: something was written", c.name)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := rt.MatMulContext(ctx, dst, a, b, 2, 3, 3, MatMulOptions{}); !errors.Is(err, context.Canceled) || dst[0] != 7 {
		t.Errorf("ended context: %v, %v", err, dst)
	}
}

func TestMatMulLayouts(t *testing.T) {
	rt := open(t)
	a, b := []float32{1, 2, 3, 4, 5, 6}, []float32{1, 0, 2, 0, 3, 0} // b: 3x1 in rows of two
	for _, c := range []struct {
		name    string
		dst     []float32
		m, n, k int
		o       MatMulOptions
		want    []float32
	}{
		{"rows with gaps", nil, 2, 1, 3, MatMulOptions{LDB: 2}, []float32{14, 32}},
		{"transposed", nil, 2, 1, 3, MatMulOptions{TransA: true, LDB: 2}, []float32{22, 28}},
		{"added", []float32{100, 200}, 2, 1, 3, MatMulOptions{LDB: 2, Accumulate: true}, []float32{114, 232}},
		{"batch", nil, 1, 1, 3, MatMulOptions{LDB: 2, Batch: 2, SharedB: true}, []float32{14, 32}},
		{"batch of both", nil, 1, 2, 1, MatMulOptions{Batch: 3}, []float32{1, 0, 4, 0, 9, 0}},
		{"spread out", []float32{7, 7, 7, 7, 7}, 1, 1, 3, MatMulOptions{LDB: 2, Batch: 2, SharedB: true, StrideC: 3}, []float32{14, 7, 7, 32, 7}},
	} {
		if got, err := rt.MatMul(c.dst, a, b, c.m, c.n, c.k, c.o); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}

func TestMatMulAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget")
	}
	needsFused(t)
	for name, rt := range map[string]*Runtime{"pure Go": queueOnly(open(t, WithoutNative())), "native": open(t, libraries(t), WithForce("simd_c"))} {
		a, b, c := ramp(50*60), ramp(60*70), make([]float32, 50*70)
		f := func() {
			if _, err := rt.MatMul(c, a, b, 50, 70, 60, MatMulOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		f()
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations a call", name, n)
		}
	}
}

// TestFastNumericsAreAskedFor: whatever is fastest, a call that does not ask gets the bits of pure Go; one that does may go elsewhere.
func TestFastNumericsAreAskedFor(t *testing.T) {
	const n = 70
	a, b := ramp(n*n), ramp(n*n + 1)[1:]
	for i := range a {
		a[i] /= 3 // so that the order of sums shows
	}
	want, err := open(t, WithoutNative()).MatMul(nil, a, b, n, n, n, MatMulOptions{Fast: true}) // has no fast kernel
	if err != nil {
		t.Fatal(err)
	}
	rt := open(t, WithoutNative(), WithFastNumerics(), WithBLAS("none"))
	arms := map[backends.Op][]dispatch.Arm{backends.OpMatMul: rt.Arms(backends.OpMatMul)}
	profile := &dispatch.Profile{}
	for i, arm := range arms[backends.OpMatMul] {
		profile.Set(backends.OpMatMul, arm, dispatch.Model{Coef: dispatch.Coef{float64(1000 - 100*i)}}) // later ones are faster
	}
	router, err := dispatch.NewRouter(arms, profile, dispatch.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	fix(rt, router)
	for _, fast := range []bool{false, true} {
		got, err := rt.MatMul(nil, a, b, n, n, n, MatMulOptions{Fast: fast})
		// The fast kernel may come to the same bits, as gonum's loops do on arm64, where Go fuses them; the calls below tell which one ran.
		if err != nil || !fast && !slices.Equal(got, want) {
			t.Errorf("fast %v: the bits of pure Go: %v (%v)", fast, slices.Equal(got, want), err)
		}
	}
	calls := map[string]int64{}
	for _, m := range rt.Metrics() {
		calls[m.Kernel] = m.Calls
	}
	if calls["cpu/go"] != 1 || calls["cpu/gonum"] != 1 {
		t.Errorf("calls %v", calls)
	}
	only := open(t, WithoutNative(), WithFastNumerics(), WithBLAS("none"), WithForce("cpu/gonum"))
	if _, err := only.MatMul(nil, a, b, n, n, n, MatMulOptions{}); !errors.Is(err, ErrNoBackend) {
		t.Errorf("a fast kernel is forced, canonical results are wanted: %v", err)
	}
}

func TestBLASThatCannotBeUsed(t *testing.T) {
	path, err := filepath.Abs("/nowhere/libblas.so") // with a drive where there are some
	if err != nil {
		t.Fatal(err)
	}
	rt := open(t, WithFastNumerics(), WithBLAS(path))
	found := false
	for _, b := range rt.Report().Backends {
		found = found || b.Path == path && b.State == "refused" && b.Reason != ""
	}
	if !found {
		t.Errorf("report %+v", rt.Report().Backends)
	}
	if _, err := Open(WithFastNumerics(), WithBLAS(path), WithStrict()); !errors.Is(err, ErrStrict) || !errors.Is(err, ErrLibrary) {
		t.Errorf("strict: %v", err)
	}
	for _, o := range []Option{WithBLAS("libblas.so"), WithCUBLAS("libcublas.so.13")} {
		if _, err := Open(o); !errors.Is(err, ErrArgument) {
			t.Errorf("relative: %v", err)
		}
	}
}
