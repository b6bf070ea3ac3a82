// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/backends/cuda"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/runtime"
)

// fakeCUBLAS is the stand-in for cuBLAS, which lies beside that for the driver.
func fakeCUBLAS() string {
	return filepath.Join(filepath.Dir(os.Getenv(driverVariable)), "libcublas_fake.so")
}

// openCUBLAS opens device 0 with a cuBLAS; the attempt is that of cuBLAS.
func openCUBLAS(t testing.TB, choice string) (backends.Backend, plugin.Attempt) {
	t.Helper()
	list, tried := cuda.Open([]plugin.Place{{Path: folder(), Origin: "test"}}, []int{0}, cuda.Fast{Wanted: true, CUBLAS: choice})
	if len(list) != 1 {
		t.Fatalf("%+v", tried)
	}
	last := tried[len(tried)-1]
	if last.Name != "cuda/cublas" {
		last = plugin.Attempt{}
	}
	return list[0], last
}

// kernelOf is a backend's kernel of matmul of that name.
func kernelOf(b backends.Backend, name string) (backends.Kernel, bool) {
	for _, k := range b.Kernels() {
		if k.Op == backends.OpMatMul && k.Name == name {
			return k, true
		}
	}
	return backends.Kernel{}, false
}

func TestCUBLASIsOfferedWhereItIs(t *testing.T) {
	faking(t)
	b := mustOpen(t)
	if _, there := kernelOf(b, "cublas"); there {
		t.Error("there without fast numerics")
	}
	closed(t, "without fast numerics", b)
	junk := filepath.Join(t.TempDir(), "libcublas.so")
	if err := os.WriteFile(junk, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "libcublas.so")
	if err := os.Symlink(fakeCUBLAS(), link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		choice string
		state  plugin.State
		reason string
	}{
		{"none", "", ""},
		{fakeCUBLAS(), plugin.Loaded, ""},
		{link, plugin.Loaded, ""},
		{"/nowhere/libcublas.so.13", plugin.Refused, "no such file"},
		{"libcublas.so.13", plugin.Refused, "neither absolute"},
		{junk, plugin.Refused, ""},
		{os.Getenv(driverVariable), plugin.Refused, "cublasCreate_v2"},
	} {
		b, a := openCUBLAS(t, c.choice)
		_, there := kernelOf(b, "cublas")
		if a.State != c.state || !strings.Contains(a.Reason, c.reason) || there != (c.state == plugin.Loaded) {
			t.Errorf("%s: there: %v; %+v", c.choice, there, a)
		}
		if there && a.Version != "13.0.2" || c.state == plugin.Refused && !errors.Is(a.Err, backends.ErrLibrary) {
			t.Errorf("%s: %+v", c.choice, a)
		}
		closed(t, c.choice, b)
	}
}

// A cuBLAS that fails when it is tried is not offered; the rest of the device is.
func TestCUBLASFailsAtOpen(t *testing.T) {
	faking(t)
	for _, c := range []struct {
		name   string
		code   int32
		reason string
	}{{"cublasCreate_v2", 1, "not initialized"}, {"cublasCreate_v2", 3, "allocation failed"}, {"cublasSetMathMode", 7, "arithmetic"}, {"cublasSgemmStridedBatched", 14, "internal error"}, {"sgemm", 700, "700"}} {
		for i := range 2 { // where memory is short, a call is tried again
			fake.fault(c.name, i+1, c.code)
		}
		b, a := openCUBLAS(t, fakeCUBLAS())
		fake.fault(c.name, 0, 0)
		if _, there := kernelOf(b, "cublas"); there || a.State != plugin.Failed || !strings.Contains(a.Reason, c.reason) {
			t.Errorf("%s: there: %v; %+v", c.name, there, a)
		}
		if _, there := kernelOf(b, "cuda"); !there {
			t.Errorf("%s: no canonical product", c.name)
		}
		closed(t, c.name, b)
	}
}

// product is a call of small integers, whose product is the same in any order of summation: of one product, or of three.
func product(batch int) backends.MatMul {
	const m, n, k = 20, 30, 40
	a := backends.MatMul{M: m, N: n, K: k, LDA: k, LDB: n, LDC: n + 1, Batch: batch, StrideA: m * k, StrideB: 0, StrideC: m * (n + 1), Accumulate: true}
	whole := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(i*7%9 - 4)
		}
		return x
	}
	a.A, a.B, a.C = whole(batch*m*k), whole(k*n), whole(a.SizeC())
	return a
}

// Every function of cuBLAS fails, in every way: the call's error says how, C is as it was, the next call is right, and nothing is left.
func TestEveryFunctionOfCUBLASFails(t *testing.T) {
	faking(t)
	fake.memory(8 << 20)
	for _, batch := range []int{1, 3} {
		want := product(batch)
		if err := (cpu.Backend{}).MatMul(backends.Kernel{Op: backends.OpMatMul}, &want); err != nil {
			t.Fatal(err)
		}
		gemm := map[int]string{1: "cublasSgemm_v2", 3: "cublasSgemmStridedBatched"}[batch]
		for _, name := range []string{"cublasCreate_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasSetMathMode", gemm, "sgemm"} {
			for code, kind := range map[int32]error{1: backends.ErrBackend, 3: backends.ErrMemory, 7: backends.ErrBackend, 8: backends.ErrUnsupported, 13: backends.ErrBackend, 14: backends.ErrBackend, 15: backends.ErrUnsupported, 700: backends.ErrLost} {
				if (name == "sgemm") != (code == 700) {
					continue
				}
				where := fmt.Sprintf("%s:%d of %d", name, code, batch)
				b, _ := openCUBLAS(t, fakeCUBLAS())
				k, _ := kernelOf(b, "cublas")
				if name == "cublasCreate_v2" { // the handle that was made for the trial goes
					d := backends.DeviceOf(b)
					at, err := d.Alloc(8 << 20)
					if err == nil {
						err = d.Free(at)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				p := product(batch)
				fake.fault(name, 1, code)
				if name == "cublasCreate_v2" && code == 1 { // a device without memory may say so
					kind = backends.ErrMemory
				}
				if kind == backends.ErrMemory { // a call is tried again then
					fake.fault(name, 2, code)
				}
				err := b.MatMul(k, &p)
				fake.fault(name, 0, 0)
				if !errors.Is(err, kind) || !typed(err) || !slices.Equal(p.C, product(batch).C) {
					t.Errorf("%s: %v; C is as it was: %v", where, err, slices.Equal(p.C, product(batch).C))
				}
				if code != 700 {
					if err := b.MatMul(k, &p); err != nil || !slices.Equal(p.C, want.C) {
						t.Errorf("%s: afterwards: %v", where, err)
					}
				}
				closed(t, where, b)
			}
		}
	}
}

// Without memory for its workspace there is no product by cuBLAS; and what an idle handle holds is given up for a buffer.
func TestCUBLASGivesMemoryBack(t *testing.T) {
	faking(t)
	fake.memory(8 << 20)
	b, _ := openCUBLAS(t, fakeCUBLAS())
	k, _ := kernelOf(b, "cublas")
	p := product(1)
	if err := b.MatMul(k, &p); err != nil {
		t.Fatal(err)
	}
	d := backends.DeviceOf(b)
	before := fake.live()
	at, err := d.Alloc(8 << 20) // all of it
	if err != nil {
		t.Fatal(err)
	}
	if n := fake.live(); n != before-1 { // a buffer, for scratch memory and a handle's pool
		t.Errorf("%d things, before there were %d", n, before)
	}
	p = product(1)
	if err := b.MatMul(k, &p); !errors.Is(err, backends.ErrMemory) || !slices.Equal(p.C, product(1).C) {
		t.Errorf("%v", err)
	}
	if err := d.Free(at); err != nil {
		t.Error(err)
	}
	if err := b.MatMul(k, &p); err != nil {
		t.Error(err)
	}
	closed(t, "little memory", b)
}

// fastRouted is a runtime that sends products to cuBLAS first.
func fastRouted(t *testing.T, options ...runtime.Option) *runtime.Runtime {
	t.Helper()
	table := filepath.Join(t.TempDir(), "fast.json")
	if err := os.WriteFile(table, []byte(`{"setun_thresholds":1,"ops":{"matmul":[{"from":0,"kernel":"cuda/cublas"}]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	rt, err := runtime.Open(append([]runtime.Option{runtime.WithLibraries(folder()), runtime.WithCUDA(0), runtime.WithProfile(""), runtime.WithThresholds(table), runtime.WithFastNumerics(), runtime.WithBLAS("none"), runtime.WithCUBLAS(fakeCUBLAS())}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt
}

// within says whether two products differ by no more than two sums of k products of values below 1 in magnitude may.
func within(a, b []float32, k int) bool {
	for i := range a {
		if !(math.Abs(float64(a[i])-float64(b[i])) <= 2*float64(k*(k+1))*0x1p-24) {
			return false
		}
	}
	return len(a) == len(b)
}

// Calls that ask get cuBLAS, several at once and from buffers too; calls that do not get canonical bits.
func TestCallsThatAskGetCUBLAS(t *testing.T) {
	faking(t)
	const m, n, k = 50, 60, 70
	r := random(3)
	a, b := make([]float32, m*k), make([]float32, k*n)
	for _, x := range [][]float32{a, b} {
		for i := range x {
			x[i] = r.Float32()*2 - 1
		}
	}
	var mutex sync.Mutex
	kernels := map[string]int{}
	rt := fastRouted(t, runtime.WithObserver(func(e runtime.Event) {
		mutex.Lock()
		kernels[e.Kernel]++
		mutex.Unlock()
	}))
	want := make([]float32, m*n)
	p := backends.MatMul{A: a, B: b, C: want, M: m, N: n, K: k, LDA: k, LDB: n, LDC: n, Batch: 1}
	if err := (cpu.Backend{}).MatMul(backends.Kernel{Op: backends.OpMatMul}, &p); err != nil {
		t.Fatal(err)
	}
	if c, err := rt.MatMul(nil, a, b, m, n, k, runtime.MatMulOptions{}); err != nil || !slices.Equal(c, want) || kernels["cuda/cublas"] != 0 {
		t.Errorf("a canonical call: %v, %v", err, kernels)
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 3 {
				c, err := rt.MatMul(nil, a, b, m, n, k, runtime.MatMulOptions{Fast: true})
				if err != nil || !within(c, want, k) || slices.Equal(c, want) { // the stand-in adds in an order of its own
					t.Errorf("a fast call: %v", err)
				}
			}
		})
	}
	wait.Wait()
	var buffers [3]*runtime.Buffer
	for i, x := range [][]float32{a, b, make([]float32, m*n)} {
		var err error
		if buffers[i], err = rt.NewBuffer(len(x)); err == nil {
			err = buffers[i].Write(x)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	got := make([]float32, m*n)
	for range 2 { // the second time everything lies on the device
		err := buffers[2].MatMul(context.Background(), buffers[0], buffers[1], m, n, k, runtime.MatMulOptions{Fast: true})
		if err == nil {
			err = buffers[2].Read(got)
		}
		if err != nil || !within(got, want, k) || slices.Equal(got, want) {
			t.Errorf("from buffers: %v", err)
		}
	}
	if kernels["cuda/cublas"] != 26 {
		t.Errorf("%v", kernels)
	}
	for _, x := range buffers {
		x.Close()
	}
	rt.Close()
	if n := fake.live(); n != 0 {
		t.Errorf("%d things are left", n)
	}
}

// A product that fails is answered by the next kernel: by the canonical one of the device, and where that is lost by the CPU.
func TestCUBLASFails(t *testing.T) {
	faking(t)
	for _, c := range []struct {
		name  string
		code  int32
		state string
	}{{"cublasSgemm_v2", 13, "loaded"}, {"cublasSgemm_v2", 15, "loaded"}, {"sgemm", 700, "lost"}} {
		rt := fastRouted(t)
		p := product(1)
		p.Accumulate, p.LDC = false, p.N
		want := slices.Clone(p.C[:p.M*p.N])
		p.C = want
		if err := (cpu.Backend{}).MatMul(backends.Kernel{Op: backends.OpMatMul}, &p); err != nil {
			t.Fatal(err)
		}
		fake.fault(c.name, 1, c.code)
		got, err := rt.MatMul(nil, p.A, p.B, p.M, p.N, p.K, runtime.MatMulOptions{Fast: true})
		fake.fault(c.name, 0, 0)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s:%d: %v", c.name, c.code, err)
		}
		if b := report(t, rt); b.State != c.state {
			t.Errorf("%s:%d: %+v", c.name, c.code, b)
		}
		rt.Close()
		if n := fake.live(); n != 0 {
			t.Errorf("%s:%d: %d things are left", c.name, c.code, n)
		}
	}
}

// A product that does not end: see TestKernelNeverEnds.
func TestCUBLASNeverEnds(t *testing.T) {
	faking(t)
	child(t, "TestCUBLASNeverEndsInChild", "SETUN_CUDA_TIMEOUT_MS=100")
}

func TestCUBLASNeverEndsInChild(t *testing.T) {
	if !inChild() {
		return
	}
	faking(t)
	rt := fastRouted(t)
	p := product(1)
	fake.hang(1)
	begin := time.Now()
	_, err := rt.MatMul(nil, p.A, p.B, p.M, p.N, p.K, runtime.MatMulOptions{Fast: true})
	if b := report(t, rt); err != nil || b.State != "lost" || !strings.Contains(b.Reason, "did not end") {
		t.Errorf("%v, %+v", err, b)
	}
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	fake.hang(0)
}
