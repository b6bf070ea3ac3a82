// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/setun-compute/setun/backends"
	simdc "github.com/setun-compute/setun/backends/simd_c"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/machine"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/quant"
)

// libraries returns the options that load this checkout's native libraries, or skips the test.
func libraries(t testing.TB) Option {
	t.Helper()
	dir := libraryFolder(t)
	if level := os.Getenv("SETUN_FORCE_ISA"); level != "" {
		rt := open(t, WithLibraries(dir))
		has := slices.ContainsFunc(rt.Report().ISA, func(l machine.ISA) bool { return l.Name == level && l.Available })
		switch there := len(rt.Arms(backends.OpNorm2)) > 1; {
		case !there && (has || level == "scalar"):
			t.Fatalf("this machine has %s, and no kernel of it is there: %+v", level, rt.Report().Backends)
		case !there:
			t.Skipf("this machine has no %s", level)
		}
	}
	return WithLibraries(dir)
}

// libraryFolder is where they are.
func libraryFolder(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("SETUN_TEST_LIBRARIES")
	if dir == "" {
		dir, _ = filepath.Abs("../native/build/release")
	}
	if _, err := os.Stat(filepath.Join(dir, plugin.FileName("simd_c"))); err != nil {
		if os.Getenv("SETUN_TEST_NATIVE") == "require" {
			t.Fatalf("native libraries are required: %v", err)
		}
		t.Skipf("no native library (run make native): %v", err)
	}
	return dir
}

func open(t testing.TB, options ...Option) *Runtime {
	t.Helper()
	rt, err := Open(append([]Option{WithProfile("")}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt
}

func ramp(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(i%17) - 8
	}
	return x
}

func TestPureGoServesEveryOp(t *testing.T) {
	rt := open(t, WithoutNative())
	q, err := rt.Quantize(nil, ramp(1000), quant.Options{})
	if err != nil || len(q.Codes) != 1000 {
		t.Errorf("quantize: %v", err)
	}
	out, norm, err := rt.Constrain(nil, []float32{3, 4}, 1)
	if err != nil || norm != 5 || math.Hypot(float64(out[0]), float64(out[1])) > 1 {
		t.Errorf("constrain: %v, norm %v, %v", out, norm, err)
	}
	if d, err := rt.Dot([]float32{1, 2}, []float32{3, 4}); d != 11 || err != nil {
		t.Errorf("dot: %v, %v", d, err)
	}
	if n, err := rt.Norm2([]float32{3, 4}); n != 5 || err != nil {
		t.Errorf("norm2: %v, %v", n, err)
	}
	c, err := rt.KMeans(context.Background(), nil, []float32{0, 1, 10, 11}, 1, KMeansOptions{K: 2})
	if err != nil || c.Inertia != 1 || !c.Converged {
		t.Errorf("kmeans: %+v, %v", c, err)
	}
	if m, err := rt.MatMul(nil, []float32{1, 2, 3, 4}, []float32{5, 6, 7, 8}, 2, 2, 2, MatMulOptions{}); err != nil || !slices.Equal(m, []float32{19, 22, 43, 50}) {
		t.Errorf("matmul: %v, %v", m, err)
	}
	if got := len(rt.Metrics()); got != 6 {
		t.Errorf("%d metrics, want one an op: %+v", got, rt.Metrics())
	}
}

func TestInPlaceInsideTheBallWritesNothing(t *testing.T) {
	x := []float32{0.3, float32(math.Copysign(0, -1)), 0.4}
	rt := open(t)
	out, _, err := rt.Constrain(x, x, 1)
	if err != nil || &out[0] != &x[0] || x[0] != 0.3 || !math.Signbit(float64(x[1])) {
		t.Errorf("%v, %v", out, err)
	}
}

// TestBadInput: each is a typed error that names the argument and its value, and the destination stays as it was.
func TestBadInput(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, rt := range map[string]*Runtime{"pure Go": open(t, WithoutNative()), "best": open(t)} {
		dst := []float32{7, 7, 7}
		tensor := &quant.Tensor{Codes: []int8{7, 7, 7}, Scales: []float32{7}}
		kmeans := func(x []float32, dim int, o KMeansOptions) error {
			_, err := rt.KMeans(context.Background(), nil, x, dim, o)
			return err
		}
		quantize := func(x []float32, o quant.Options) error {
			_, err := rt.Quantize(tensor, x, o)
			if tensor.Codes[0] != 7 || tensor.Scales[0] != 7 {
				t.Errorf("%s: the destination changed: %v", name, tensor)
			}
			return err
		}
		constrain := func(x []float32, radius float64) error {
			_, _, err := rt.Constrain(dst, x, radius)
			if dst[0] != 7 {
				t.Errorf("%s: the destination changed: %v", name, dst)
			}
			return err
		}
		dot := func(x, y []float32) error { _, err := rt.Dot(x, y); return err }
		norm := func(x []float32) error { _, err := rt.Norm2(x); return err }
		three := []float32{1, 2, 3}
		for _, c := range []struct {
			err      error
			sentinel error
			words    string
		}{
			{quantize(nil, quant.Options{}), ErrArgument, "x is empty"},
			{quantize(three, quant.Options{Cols: 2}), ErrShape, "len(x) = 3 is not a multiple of the row length 2"},
			{quantize(three, quant.Options{Cols: -1}), ErrShape, "rows of -1"},
			{quantize(three, quant.Options{Cols: 9}), ErrShape, "rows of 9"},
			{quantize(three, quant.Options{Group: 4}), ErrArgument, "group = 4"},
			{quantize(three, quant.Options{Group: -2}), ErrArgument, "group = -2"},
			{quantize(three, quant.Options{Levels: 7}), ErrArgument, "levels = 7"},
			{quantize(three, quant.Options{Rule: 99}), ErrArgument, "rule = 99"},
			{quantize(three, quant.Options{Format: 99}), ErrArgument, "format = 99"},
			{quantize(three, quant.Options{Levels: quant.Quinary, Format: quant.Bits2}), ErrArgument, "format 2bit holds ternary codes only"},
			{quantize([]float32{1, nan, 3}, quant.Options{}), ErrNonFinite, "x[1] = NaN"},
			{quantize([]float32{1, 2, inf}, quant.Options{Rule: quant.LeastSquares}), ErrNonFinite, "x[2] = +Inf"},
			{quantize([]float32{-inf, 2, inf}, quant.Options{Rule: quant.AbsMax}), ErrNonFinite, "x[0] = -Inf"},
			{constrain(nil, 1), ErrArgument, "x is empty"},
			{constrain([]float32{1}, 1), ErrShape, "dst has 3 values, x has 1"},
			{constrain(three, -1), ErrArgument, "radius = -1"},
			{constrain(three, math.NaN()), ErrArgument, "radius = NaN"},
			{constrain([]float32{1, nan, 3}, 1), ErrNonFinite, "x[1] = NaN"},
			{dot(nil, nil), ErrArgument, "x is empty"},
			{dot(three, three[:2]), ErrShape, "y has 2 values, x has 3"},
			{dot(three, []float32{1, 2, nan}), ErrNonFinite, "y[2] = NaN"},
			{norm(nil), ErrArgument, "x is empty"},
			{norm([]float32{inf}), ErrNonFinite, "x[0] = +Inf"},
			{kmeans(nil, 1, KMeansOptions{K: 1}), ErrArgument, "no points"},
			{kmeans(three, 0, KMeansOptions{K: 1}), ErrArgument, "dimension = 0"},
			{kmeans(three, -3, KMeansOptions{K: 1}), ErrArgument, "dimension = -3"},
			{kmeans(three, 2, KMeansOptions{K: 1}), ErrShape, "not rows of 2"},
			{kmeans(three, math.MaxInt, KMeansOptions{K: 1}), ErrShape, "not rows of"},
			{kmeans(three, 1, KMeansOptions{}), ErrArgument, "k = 0"},
			{kmeans(three, 1, KMeansOptions{K: 4}), ErrArgument, "k = 4 exceeds 3 points"},
			{kmeans(three, 1, KMeansOptions{K: 1, MaxIter: -1}), ErrArgument, "max iterations = -1"},
			{kmeans(three, 1, KMeansOptions{K: 1, Tol: -1}), ErrArgument, "tolerance = -1"},
			{kmeans(three, 1, KMeansOptions{K: 1, Tol: math.NaN()}), ErrArgument, "tolerance = NaN"},
			{kmeans(three, 1, KMeansOptions{K: 2, Centroids: three}), ErrShape, "initial centroids have 3 values, not 2"},
			{kmeans(three, 1, KMeansOptions{K: 1, Centroids: []float32{nan}}), ErrNonFinite, "initial centroid 0, column 0 = NaN"},
			{kmeans(three, 1, KMeansOptions{K: 1, Weights: three[:1]}), ErrShape, "1 weights for 3 points"},
			{kmeans(three, 1, KMeansOptions{K: 1, Weights: []float32{1, -1, 1}}), ErrArgument, "weight 1 = -1"},
			{kmeans(three, 1, KMeansOptions{K: 1, Weights: []float32{0, 0, 0}}), ErrArgument, "all weights are 0"},
			{kmeans([]float32{1, 2, 3, nan}, 2, KMeansOptions{K: 1}), ErrNonFinite, "row 1, column 1 = NaN"},
			{kmeans([]float32{3e38, -3e38}, 1, KMeansOptions{K: 1}), ErrRange, "2^125"},
			{kmeans(three, 1, KMeansOptions{K: 1, Batch: 100, MaxIter: math.MaxInt}), ErrArgument, "mini-batches of 100 rows"},
		} {
			var e *Error
			if !errors.Is(c.err, c.sentinel) || !errors.As(c.err, &e) || !strings.Contains(c.err.Error(), c.words) {
				t.Errorf("%s: %v; want %v with %q", name, c.err, c.sentinel, c.words)
			}
		}
		x := make([]float32, 8)
		if _, _, err := rt.Constrain(x[1:5], x[:4], 1); !errors.Is(err, ErrAlias) {
			t.Errorf("%s: overlap: %v", name, err)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget")
	}
	t.Run("pure Go", func(t *testing.T) { nothingIsAllocated(t, open(t, WithoutNative())) })
	t.Run("native", func(t *testing.T) { nothingIsAllocated(t, open(t, libraries(t), WithForce("simd_c"))) })
}

// queueOnly has timed calls put into the queue and never learned from: learning has a budget of its own, and allocates.
func queueOnly(rt *Runtime) *Runtime {
	if rt.learning != nil {
		rt.learning.saved.Store(math.MinInt64)
	}
	return rt
}

func nothingIsAllocated(t *testing.T, rt *Runtime) {
	queueOnly(rt)
	x := ramp(5000)
	q, err := rt.Quantize(nil, x, quant.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, segments := ramp(5000), Clusters{Offsets: []int64{0, 1000, 5000}, Radii: []float64{1, 2}}
	labels := Clusters{Labels: make([]int32, 100), Radii: []float64{1}}
	cases := map[string]func(){
		"step":     func() { rt.Step(q, p, x, 1, quant.Options{}) },
		"segments": func() { rt.ConstrainClusters(p, x, &segments) },
		"quantize": func() { rt.Quantize(q, x, quant.Options{}) },
		"packed": func() {
			rt.Quantize(q, x, quant.Options{Format: quant.Base3, Rule: quant.LeastSquares, Cols: 50, Group: 25})
		},
		"constrain": func() { rt.Constrain(x, x, 10) },
		"dot":       func() { rt.Dot(x, x) },
		"norm2":     func() { rt.Norm2(x) },
	}
	if len(rt.Arms(backends.OpClusters)) > 1 { // pure Go collects the sums of each cluster's rows
		cases["labels"] = func() { rt.ConstrainClusters(p, x, &labels) }
	}
	for op, f := range cases {
		f() // the pools and the destination have what they need now
		if n := testing.AllocsPerRun(200, f); n != 0 {
			t.Errorf("%s: %v allocations a call", op, n)
		}
	}
}

// needsFused skips where only SSE4.2 kernels are admitted: k-means and matmul need a fused multiply-add and are left to pure Go then.
func needsFused(t *testing.T) {
	t.Helper()
	if os.Getenv(simdc.ForceVariable) == "sse42" {
		t.Skip("SSE4.2 has no kernel for this op")
	}
}

func TestNativeAndGoGiveTheSameBits(t *testing.T) {
	needsFused(t)
	native, pure := open(t, libraries(t), WithForce("simd_c")), open(t, WithoutNative())
	x := ramp(64 * 300)
	a, err := native.KMeans(context.Background(), nil, x, 64, KMeansOptions{K: 7, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := pure.KMeans(context.Background(), nil, x, 64, KMeansOptions{K: 7, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("clusterings differ: %s", diff)
	}
	if m := native.Metrics(); len(m) != 1 || !strings.HasPrefix(m[0].Kernel, "simd_c/") {
		t.Errorf("metrics %+v", m)
	}
}

func TestForceAndMinimum(t *testing.T) {
	if _, err := Open(WithForce("abacus")); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), "cpu/go") {
		t.Errorf("unknown backend: %v", err)
	}
	rt := open(t, libraries(t), WithMinimum(backends.OpNorm2, "simd_c", 1e6))
	for n, admitted := range map[int]bool{999_999: false, 1_000_000: true} {
		for _, c := range rt.Explain(dispatch.Vector(backends.OpNorm2, n)).Arms {
			if c.Backend == "simd_c" && (c.Skipped == "") != admitted {
				t.Errorf("%d values: %+v", n, c)
			}
		}
	}
}

func TestBrokenLibraryIsReported(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, plugin.FileName("simd_c"))
	if err := os.WriteFile(path, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	rt := open(t, WithLibraries(dir))
	found := false
	for _, b := range rt.Report().Backends {
		found = found || b.Path == path && b.State == "refused" && b.Reason != ""
	}
	if !found {
		t.Errorf("report %+v", rt.Report().Backends)
	}
	if _, err := rt.Norm2(ramp(10)); err != nil {
		t.Errorf("pure Go did not go on: %v", err)
	}
	if _, err := Open(WithLibraries(dir), WithStrict()); !errors.Is(err, ErrStrict) || !strings.Contains(err.Error(), path) {
		t.Errorf("strict: %v", err)
	}
}

func TestDamagedProfileIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(path, []byte(`{"schema": 2, "models": [`), 0o600); err != nil {
		t.Fatal(err)
	}
	rt := open(t, WithProfile(path))
	if p := rt.Report().Profile; p.State != "refused" || !strings.Contains(p.Reason, "damaged") {
		t.Errorf("%+v", p)
	}
}

// flaky fails every call as a broken device would.
type flaky struct{ backends.Backend }

func (flaky) Name() string { return "flaky" }
func (f flaky) Kernels() []backends.Kernel {
	return []backends.Kernel{{Op: backends.OpNorm2, Name: "go", Threads: 8}}
}
func (flaky) Reduce(k backends.Kernel, a *backends.Reduce) error {
	return backends.Fail(backends.ErrBackend, k.Op, "", "the device is lost")
}
func (flaky) Close() error { return nil }

// fix gives a runtime a router that stays.
func fix(rt *Runtime, r *dispatch.Router) {
	rt.learning = nil
	rt.router.Store(r)
}

func TestFailingBackendIsPassedOver(t *testing.T) {
	rt := open(t, WithoutNative())
	rt.add(flaky{}, nil)
	arms := map[backends.Op][]dispatch.Arm{backends.OpNorm2: {{Backend: "cpu", Kernel: "slow?"}, {Backend: "flaky", Kernel: "avx512"}}}
	router, err := dispatch.NewRouter(arms, nil, dispatch.Policy{}) // flaky is predicted to be the faster one
	if err != nil {
		t.Fatal(err)
	}
	fix(rt, router)
	x := ramp(100_000)
	for range 3 {
		if n, err := rt.Norm2(x); err != nil || n == 0 {
			t.Fatalf("%v, %v", n, err)
		}
	}
	for _, m := range rt.Metrics() {
		if m.Kernel == "flaky/go" && (m.Calls != 1 || m.Fallbacks != 1) {
			t.Errorf("it should have been tried once, and rest then: %+v", m)
		}
	}
	if x := rt.Explain(dispatch.Vector(backends.OpNorm2, len(x))); !strings.Contains(x.String(), "it failed or is unhealthy") {
		t.Errorf("the explanation does not say so:\n%s", x)
	}
}
