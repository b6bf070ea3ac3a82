// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
		for name, f := range map[string]any{"reset": &fake.reset, "fault": &fake.fault, "memory": &fake.memory, "devices": &fake.devices, "hang": &fake.hang, "live": &fake.live, "launches": &fake.launches} {
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
	list, tried := cuda.Open([]plugin.Place{{Path: folder(), Origin: "test"}}, []int{0}, false)
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

// routed opens a runtime whose first choice for every op that the device has is the device.
func routed(t testing.TB, options ...runtime.Option) *runtime.Runtime {
	t.Helper()
	var rows []string
	for _, op := range backends.Ops() {
		if op >= backends.OpRMSNorm {
			continue // it has none of these
		}
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

// task is a call with data of its own: its result as bytes, and whether a call that failed left what it must not touch as it was.
type task struct {
	name string
	op   backends.Op
	kind string // name of the kernel
	run  func(d *data, b backends.Backend, k backends.Kernel) error
}

type data struct {
	r           *rand.Rand
	fixed, both [][2][]byte // inputs, and what a call changes in place, now and as they were
	out         [][]byte
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

func values(d *data, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(d.r.NormFloat64())
	}
	return x
}

func in[E int8 | uint8 | int32 | int64 | float32 | float64](d *data, x []E) []E {
	d.fixed = append(d.fixed, [2][]byte{backends.Bytes(x), backends.Bytes(slices.Clone(x))})
	return x
}

func inout(d *data, x []float32) []float32 {
	d.both = append(d.both, [2][]byte{backends.Bytes(x), backends.Bytes(slices.Clone(x))})
	d.out = append(d.out, backends.Bytes(x))
	return x
}

func out[E int8 | uint8 | int32 | int64 | float32 | float64](d *data, x []E) []E {
	d.out = append(d.out, backends.Bytes(x))
	return x
}

func outTensor(d *data, rows int, o quant.Options) *quant.Tensor {
	t := new(quant.Tensor)
	t.Resize(rows, o)
	out(d, t.Codes)
	out(d, t.Packed)
	out(d, t.Scales)
	return t
}

// do runs a task. The result is nil after an error.
func (c *task) do(b backends.Backend) (result []byte, err error) {
	d := &data{r: random(uint64(c.op))}
	var k backends.Kernel
	for _, have := range b.Kernels() {
		if have.Op == c.op && (b.Name() != cuda.Name || have.Name == c.kind) {
			k = have
			break
		}
	}
	err = c.run(d, b, k)
	for _, pair := range d.fixed {
		if !bytes.Equal(pair[0], pair[1]) {
			return nil, fmt.Errorf("%s: an input was changed (%w)", c.name, err)
		}
	}
	if err == nil {
		return bytes.Join(d.out, nil), nil
	}
	for _, pair := range d.both {
		if !bytes.Equal(pair[0], pair[1]) {
			return nil, fmt.Errorf("%s: data was changed in place by a call that failed (%v)", c.name, err)
		}
	}
	return nil, err
}

// tasks has every op, small and fast: what is in place is longer than what comes back with the results of a call at once, 64 KiB.
func tasks() []task {
	const n = 20_000
	quantize := func(o quant.Options, n int) func(d *data, b backends.Backend, k backends.Kernel) error {
		return func(d *data, b backends.Backend, k backends.Kernel) error {
			return b.Quantize(k, &backends.Quantize{X: in(d, values(d, n)), Rule: o.Rule, Dst: outTensor(d, n/o.Cols, o)})
		}
	}
	constrain := func(n int, inPlace bool) func(d *data, b backends.Backend, k backends.Kernel) error {
		return func(d *data, b backends.Backend, k backends.Kernel) error {
			a := backends.Constrain{X: values(d, n), Radius: 3}
			if a.Dst = a.X; inPlace {
				inout(d, a.X)
			} else {
				in(d, a.X)
				a.Dst = out(d, make([]float32, n))
			}
			err := b.Constrain(k, &a)
			out(d, []float64{a.Norm})
			return err
		}
	}
	kmeans := func(d *data, b backends.Backend, k backends.Kernel) error {
		a := backends.KMeans{N: 300, D: 6, K: 4, MaxIter: 3, Seed: 5}
		a.X, a.Labels, a.Centroids, a.Counts = in(d, values(d, a.N*a.D)), out(d, make([]int32, a.N)), out(d, make([]float32, a.K*a.D)), out(d, make([]int64, a.K))
		err := b.KMeans(context.Background(), k, &a)
		out(d, []float64{a.Inertia})
		return err
	}
	matmul := func(accumulate bool) func(d *data, b backends.Backend, k backends.Kernel) error {
		return func(d *data, b backends.Backend, k backends.Kernel) error {
			a := backends.MatMul{M: 150, N: 120, K: 9, LDA: 9, LDB: 120, LDC: 120, Batch: 1, Accumulate: accumulate}
			a.A, a.B, a.C = in(d, values(d, a.M*a.K)), in(d, values(d, a.K*a.N)), values(d, a.M*a.N)
			if accumulate {
				inout(d, a.C)
			} else {
				out(d, a.C)
			}
			return b.MatMul(k, &a)
		}
	}
	clusters := func(labels bool) func(d *data, b backends.Backend, k backends.Kernel) error {
		return func(d *data, b backends.Backend, k backends.Kernel) error {
			a := backends.Clusters{X: inout(d, values(d, n)), Radii: in(d, []float64{1, 2, 1e9}), Norms: out(d, make([]float64, 3))}
			if a.Dst = a.X; labels {
				a.Labels = make([]int32, n/50)
				for i := range a.Labels {
					a.Labels[i] = int32(i%4) - 1
				}
				in(d, a.Labels)
			} else {
				a.Offsets = in(d, []int64{0, 9000, 9000, n})
			}
			return b.ConstrainClusters(k, &a)
		}
	}
	reduce := func(y bool) func(d *data, b backends.Backend, k backends.Kernel) error {
		return func(d *data, b backends.Backend, k backends.Kernel) error {
			a := backends.Reduce{X: in(d, values(d, n))}
			if y {
				a.Y = in(d, values(d, n))
			}
			err := b.Reduce(k, &a)
			out(d, []float64{a.Result})
			return err
		}
	}
	step := func(d *data, b backends.Backend, k backends.Kernel) error {
		a := backends.Step{Params: inout(d, values(d, n)), Delta: in(d, values(d, n)), Radius: 4, Rule: quant.AbsMean}
		a.Dst = outTensor(d, n/1000, quant.Options{Levels: quant.Ternary, Format: quant.Bits2, Cols: 1000})
		err := b.Step(k, &a)
		out(d, []float64{a.Norm})
		return err
	}
	activations := func(d *data, b backends.Backend, k backends.Kernel) error {
		a := new(quant.Activations)
		a.Resize(5, 600)
		out(d, a.Codes)
		out(d, a.Scales)
		return b.Activations(k, &backends.Activations{X: in(d, values(d, 3000)), Dst: a})
	}
	codes := func(d *data, rows, cols int) *quant.Tensor {
		t := &quant.Tensor{Rows: rows, Cols: cols, Levels: quant.Ternary, Format: quant.Int8, Codes: make([]int8, rows*cols), Scales: in(d, []float32{0.25})}
		for i := range t.Codes {
			t.Codes[i] = int8(d.r.IntN(3)) - 1
		}
		in(d, t.Codes)
		return t
	}
	ternary := func(d *data, b backends.Backend, k backends.Kernel) error {
		a := backends.Ternary{W: codes(d, 40, 700), X: new(quant.Activations), Out: out(d, make([]float32, 3*40))}
		a.X.Resize(3, 700)
		for i := range a.X.Codes {
			a.X.Codes[i] = int8(d.r.IntN(255) - 127)
		}
		copy(a.X.Scales, values(d, 3))
		in(d, a.X.Codes)
		in(d, a.X.Scales)
		return b.Ternary(k, &a)
	}
	recode := func(d *data, b backends.Backend, k backends.Kernel) error {
		from := codes(d, 30, 701)
		to, err := from.Frame(nil, quant.Base3)
		if err != nil {
			return err
		}
		out(d, to.Packed)
		return b.Recode(k, &backends.Recode{From: from, To: to})
	}
	rounds := quant.Options{Levels: quant.Quinary, Rule: quant.LeastSquares, Format: quant.Int8, Cols: 5000}
	groups := quant.Options{Levels: quant.Ternary, Rule: quant.AbsMean, Format: quant.Base3, Cols: 500, Group: 50}
	return []task{
		{"quantize", backends.OpQuantize, "cuda", quantize(rounds, 5000)},
		{"quantize by groups", backends.OpQuantize, "cuda", quantize(groups, 5000)},
		{"constrain", backends.OpConstrain, "cuda", constrain(n, false)},
		{"constrain in place", backends.OpConstrain, "cuda", constrain(n, true)},
		{"dot", backends.OpDot, "cuda", reduce(true)},
		{"norm2", backends.OpNorm2, "cuda", reduce(false)},
		{"kmeans", backends.OpKMeans, "cuda", kmeans},
		{"kmeans screened", backends.OpKMeans, "screen", kmeans},
		{"matmul", backends.OpMatMul, "cuda", matmul(false)},
		{"matmul added", backends.OpMatMul, "cuda", matmul(true)},
		{"clusters by offsets", backends.OpClusters, "cuda", clusters(false)},
		{"clusters by labels", backends.OpClusters, "cuda", clusters(true)},
		{"step", backends.OpStep, "cuda", step},
		{"activations", backends.OpActivations, "cuda", activations},
		{"ternary", backends.OpTernary, "cuda", ternary},
		{"recode", backends.OpRecode, "cuda", recode},
		{"long constrain in place", backends.OpConstrain, "cuda", constrain(1_200_000, true)},
	}
}

// short is all but the last task, which goes in pieces through pinned memory.
func short() []task { return tasks()[:len(tasks())-1] }

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
