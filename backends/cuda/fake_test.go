// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebitengine/purego"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/backends/cuda"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
)

const driverVariable = "SETUN_CUDA_DRIVER"

// fake has the controls of the stand-in for the driver, native/cuda/test/fake.h.
var fake struct {
	once     sync.Once
	err      error
	reset    func()
	fault    func(name string, nth int, code int32)
	memory   func(bytes uint64)
	devices  func(n int32)
	hang     func(on int32)
	live     func() int
	launches func() int
	uploaded func() int
}

// faking skips a test that is not run with the stand-in, and resets that.
func faking(t testing.TB) {
	t.Helper()
	fake.once.Do(func() {
		library, err := purego.Dlopen(os.Getenv(driverVariable), purego.RTLD_NOW|purego.RTLD_LOCAL)
		if fake.err = err; err == nil {
			_, fake.err = purego.Dlsym(library, "cufake_live")
		}
		if fake.err != nil {
			return
		}
		for name, f := range map[string]any{"reset": &fake.reset, "fault": &fake.fault, "memory": &fake.memory, "devices": &fake.devices, "hang": &fake.hang, "live": &fake.live, "launches": &fake.launches, "uploaded": &fake.uploaded} {
			purego.RegisterLibFunc(f, library, "cufake_"+name)
		}
	})
	if os.Getenv(driverVariable) == "" || fake.err != nil {
		t.Skip("faults need the stand-in for the driver")
	}
	fake.reset()
	t.Cleanup(fake.reset)
}

func folder() string {
	if dir := os.Getenv("SETUN_TEST_LIBRARIES"); dir != "" {
		return dir
	}
	dir, _ := filepath.Abs("../../native/build/release")
	return dir
}

// attempt opens device 0, nil if that fails.
func attempt() (backends.Backend, plugin.Attempt) {
	list, tried := cuda.Open([]plugin.Place{{Path: folder(), Origin: "test"}}, []int{0}, cuda.Fast{})
	if len(list) == 0 {
		return nil, tried[len(tried)-1]
	}
	return list[0], tried[len(tried)-1]
}

func mustOpen(t testing.TB) backends.Backend {
	t.Helper()
	b, a := attempt()
	if b == nil {
		t.Fatalf("%s: %s", a.State, a.Reason)
	}
	return b
}

// routed opens a runtime whose first choice for every op is the device.
func routed(t testing.TB, options ...runtime.Option) *runtime.Runtime {
	t.Helper()
	var rows []string
	for _, op := range backends.Ops() {
		rows = append(rows, fmt.Sprintf(`%q:[{"from":0,"kernel":"cuda/cuda"}]`, op))
	}
	table := filepath.Join(t.TempDir(), "thresholds.json")
	if err := os.WriteFile(table, []byte(`{"setun_thresholds":1,"ops":{`+strings.Join(rows, ",")+`}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	rt, err := runtime.Open(append([]runtime.Option{runtime.WithLibraries(folder()), runtime.WithCUDA(0), runtime.WithProfile(""), runtime.WithThresholds(table)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt
}

// report is that of the device.
func report(t testing.TB, rt *runtime.Runtime) runtime.BackendReport {
	t.Helper()
	for _, b := range rt.Report().Backends {
		if b.Name == cuda.Name && b.State != string(plugin.Missing) {
			return b
		}
	}
	t.Fatal("there is no cuda in the report")
	return runtime.BackendReport{}
}

// child runs a test in a process of its own, with these variables, and returns what it wrote.
func child(t *testing.T, test string, variables ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+test+"$", "-test.v")
	c.Env = append(append(os.Environ(), childVariable+"="+t.Name()), variables...)
	out, err := c.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("PASS")) || bytes.Contains(out, []byte("SKIP")) {
		t.Errorf("%s with %v: %v\n%s", test, variables, err, out)
	}
	return string(out)
}

const childVariable = "SETUN_TEST_CUDA_CHILD"

// inChild says whether a test is run by child. By itself it does nothing.
func inChild() bool { return os.Getenv(childVariable) != "" }

// driverFunctions lists what the library calls of the driver.
func driverFunctions(t testing.TB) (names []string) {
	t.Helper()
	text, err := os.ReadFile("../../native/cuda/driver.h")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`X\((cu\w+),`).FindAllSubmatch(text, -1) {
		names = append(names, string(m[1]))
	}
	if len(names) < 30 {
		t.Fatalf("found %q", names)
	}
	return names
}

// kernelNames lists the kernels of the library.
func kernelNames(t testing.TB) (names []string) {
	t.Helper()
	for _, file := range []string{"kernels.h", "kernels80.h"} {
		text, err := os.ReadFile("../../native/cuda/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\bX\((\w+)\)`).FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
	}
	if len(names) < 30 {
		t.Fatalf("found %q", names)
	}
	return names
}

// truth is what pure Go says.
func truth(t testing.TB, list []task) map[string][]byte {
	t.Helper()
	m := map[string][]byte{}
	for _, c := range list {
		var err error
		if m[c.name], err = c.do(cpu.Backend{}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// typed says whether an error is one that the runtime can do something with.
func typed(err error) bool {
	var e *backends.Error
	return errors.As(err, &e) && (errors.Is(err, backends.ErrBackend) || errors.Is(err, backends.ErrUnsupported))
}

// through is a runtime as a backend, so that tasks can be given to it.
type through struct {
	backends.Backend
	rt *runtime.Runtime
}

func (through) Name() string               { return "runtime" }
func (through) Kernels() []backends.Kernel { return nil }

func (r through) Quantize(_ backends.Kernel, a *backends.Quantize) error {
	o := quant.Options{Levels: a.Dst.Levels, Rule: a.Rule, Format: a.Dst.Format, Cols: a.Dst.Cols, Group: a.Dst.Group}
	_, err := r.rt.Quantize(a.Dst, a.X, o)
	return err
}
func (r through) Constrain(_ backends.Kernel, a *backends.Constrain) (err error) {
	_, a.Norm, err = r.rt.Constrain(a.Dst, a.X, a.Radius)
	return err
}
func (r through) Reduce(_ backends.Kernel, a *backends.Reduce) (err error) {
	if a.Y == nil {
		a.Result, err = r.rt.Norm2(a.X)
	} else {
		a.Result, err = r.rt.Dot(a.X, a.Y)
	}
	return err
}
func (r through) KMeans(ctx context.Context, _ backends.Kernel, a *backends.KMeans) error {
	c := &runtime.Clustering{Labels: a.Labels, Centroids: a.Centroids, Counts: a.Counts}
	_, err := r.rt.KMeans(ctx, c, a.X, a.D, runtime.KMeansOptions{K: a.K, MaxIter: a.MaxIter, Seed: a.Seed})
	a.Inertia = c.Inertia
	return err
}
func (r through) KMeansMany(ctx context.Context, _ backends.Kernel, list *backends.KMeansMany) error {
	var problems [][]float32
	var results []*runtime.Clustering
	for _, a := range list.Fits {
		problems, results = append(problems, a.X), append(results, &runtime.Clustering{Labels: a.Labels, Centroids: a.Centroids, Counts: a.Counts})
	}
	a := list.Fits[0]
	_, err := r.rt.KMeansMany(ctx, results, problems, a.D, runtime.KMeansOptions{K: a.K, MaxIter: a.MaxIter, Seed: a.Seed})
	for i, c := range results {
		list.Fits[i].Inertia = c.Inertia
	}
	return err
}
func (r through) MatMul(_ backends.Kernel, a *backends.MatMul) error {
	_, err := r.rt.MatMul(a.C, a.A, a.B, a.M, a.N, a.K, runtime.MatMulOptions{Accumulate: a.Accumulate})
	return err
}
func (r through) ConstrainClusters(_ backends.Kernel, a *backends.Clusters) error {
	_, err := r.rt.ConstrainClusters(a.Dst, a.X, &runtime.Clusters{Offsets: a.Offsets, Labels: a.Labels, Radii: a.Radii, Norms: a.Norms})
	return err
}
func (r through) Step(_ backends.Kernel, a *backends.Step) (err error) {
	o := quant.Options{Levels: a.Dst.Levels, Rule: a.Rule, Format: a.Dst.Format, Cols: a.Dst.Cols, Group: a.Dst.Group}
	_, a.Norm, err = r.rt.Step(a.Dst, a.Params, a.Delta, a.Radius, o)
	return err
}
func (r through) Activations(_ backends.Kernel, a *backends.Activations) error {
	_, err := r.rt.QuantizeActivations(a.Dst, a.X, a.Dst.Cols)
	return err
}
func (r through) Ternary(_ backends.Kernel, a *backends.Ternary) error {
	_, err := r.rt.TernaryMatMul(a.Out, a.X, a.W)
	return err
}
func (r through) Recode(_ backends.Kernel, a *backends.Recode) error {
	_, err := r.rt.Convert(a.To, a.From, a.To.Format)
	return err
}
func (r through) RMSNorm(_ backends.Kernel, a *backends.RMSNorm) error   { return r.rt.RMSNorm(*a) }
func (r through) Softmax(_ backends.Kernel, a *backends.Softmax) error   { return r.rt.Softmax(*a) }
func (r through) Activate(_ backends.Kernel, a *backends.Activate) error { return r.rt.Activate(*a) }
func (r through) Update(_ backends.Kernel, a *backends.Update) error     { return r.rt.Update(*a) }
