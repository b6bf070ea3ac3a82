// SPDX-License-Identifier: Apache-2.0

//go:build linux

package soak

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	setun "github.com/setun-compute/setun/runtime"
)

// longVariable has the tests run that take longer than `make test` should: `make test-long`.
const longVariable = "SETUN_TEST_LONG"

func long(t *testing.T) {
	if os.Getenv(longVariable) == "" {
		t.Skipf("it takes minutes: %s=1 or make test-long runs it", longVariable)
	}
	t.Setenv("SETUN_STATE", t.TempDir())
}

// fresh opens a runtime with the libraries of the tests and without a profile.
func fresh(t *testing.T, options ...setun.Option) *setun.Runtime {
	t.Helper()
	rt, err := setun.Open(append(append(libraries(), setun.WithProfile("none")), options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

// kernels are those of norm2 and constrain that are there: names for WithForce.
func kernels(t *testing.T) (list []string) {
	rt := fresh(t)
	defer rt.Close()
	for _, b := range rt.Report().Backends {
		for _, k := range b.Kernels {
			if name, ok := strings.CutPrefix(k, "norm2/"); ok {
				list = append(list, b.Name+"/"+name)
			}
		}
	}
	if len(list) < 2 && os.Getenv("SETUN_TEST_NATIVE") != "" {
		t.Fatalf("only %v", list)
	}
	return list
}

// settled measures once what has ended is gone.
func settled(base Process) (p Process) {
	for range 100 {
		if p = measure(); p.Goroutines <= base.Goroutines {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return p
}

// TestOpenAndClose10000 opens and closes, with calls between that make threads and devices be used, and looks for what is left.
func TestOpenAndClose10000(t *testing.T) {
	long(t)
	x := make([]float32, 100_000)
	for i := range x {
		x[i] = 1
	}
	var base Process
	const cycles, warm = 10_000, 1000
	for i := range cycles {
		if i == warm {
			base = measure()
		}
		rt := fresh(t)
		if norm, err := rt.Norm2(x); err != nil || norm != math.Sqrt(float64(len(x))) {
			t.Fatalf("cycle %d: %v, %v", i, norm, err)
		}
		if err := rt.Close(); err != nil {
			t.Fatalf("cycle %d: %v", i, err)
		}
	}
	after := settled(base)
	t.Logf("after %d cycles %+v, after %d %+v", warm, base, cycles, after)
	if after.Files > base.Files || after.Goroutines > base.Goroutines || after.Threads > base.Threads+2*runtime.GOMAXPROCS(0) || after.Resident > base.Resident+8<<20 {
		t.Errorf("%+v after %d cycles, %+v after %d", base, warm, after, cycles)
	}
}

// TestMillionCalls makes calls of one value, which are all overhead.
func TestMillionCalls(t *testing.T) {
	long(t)
	rt := fresh(t)
	defer rt.Close()
	const calls = 1_000_000
	x := make([]float32, 1)
	call := func(i int) {
		x[0] = float32(i%1000) - 500
		if norm, err := rt.Norm2(x); err != nil || norm != math.Abs(float64(x[0])) {
			t.Fatalf("call %d of %v: %v, %v", i, x[0], norm, err)
		}
	}
	for i := range 10_000 {
		call(i)
	}
	base, begin := measure(), time.Now()
	for i := range calls {
		call(i)
	}
	took, after := time.Since(begin), settled(measure())
	t.Logf("%v a call; %+v before, %+v after", took/calls, base, after)
	if after.Files > base.Files || after.Goroutines > base.Goroutines || after.Resident > base.Resident+4<<20 {
		t.Errorf("%+v before, %+v after", base, after)
	}
}

// TestHundredThousandWaiters has as many callers wait for kernels of libraries, which few are let into at a time. Each has its own answer in the end.
func TestHundredThousandWaiters(t *testing.T) {
	long(t)
	names := kernels(t)
	rt := fresh(t, setun.WithForce(names[len(names)-1]))
	ctx, cancel := context.WithCancel(t.Context())
	if _, _, err := rt.ConstrainContext(ctx, nil, []float32{1}, 1); err != nil {
		t.Fatal(err)
	}
	base := measure()
	const waiters = 100_000
	var all, here sync.WaitGroup
	var wrong atomic.Int64
	start := make(chan struct{})
	here.Add(waiters)
	for i := range waiters {
		all.Go(func() {
			x, y := make([]float32, 64), make([]float32, 64)
			x[i%64] = float32(i + 1)
			here.Done()
			<-start
			if _, norm, err := rt.ConstrainContext(ctx, y, x, waiters); err != nil || norm != float64(i+1) || !slices.Equal(x, y) {
				if wrong.Add(1) == 1 {
					t.Errorf("caller %d: the norm is %v, the values %v, %v", i, norm, y, err)
				}
			}
		})
	}
	here.Wait()
	begin := time.Now()
	close(start)
	all.Wait()
	t.Logf("%d callers of %s in %v", waiters, names[len(names)-1], time.Since(begin))
	cancel()
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
	after := settled(base)
	t.Logf("%+v before, %+v after", base, after)
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d wrong answers", n)
	}
	if after.Files > base.Files || after.Goroutines > base.Goroutines || after.Threads > base.Threads+64+4*runtime.GOMAXPROCS(0) {
		t.Errorf("%+v before, %+v after", base, after)
	}
}

// TestLargeCall gives each kernel one array that takes most of the memory that is free, up to 4 GiB: its numbers do not fit 32 bits in bytes, nor 31 in values.
func TestLargeCall(t *testing.T) {
	long(t)
	n := int(min(free(t)/10*9, 4<<30+64) / 4)
	if n < 1<<26 {
		t.Skipf("only %d bytes of memory are free", free(t))
	}
	x := make([]float32, n)
	defer debug.FreeOSMemory()
	t.Logf("%d values, %.2f GiB", n, float64(n)/(1<<28))
	half := float32(0) // what the first kernel, pure Go, has
	for _, name := range kernels(t) {
		rt := fresh(t, setun.WithForce(name))
		for i := range x {
			x[i] = 1
		}
		want, begin := math.Sqrt(float64(n)), time.Now()
		norm, err := rt.Norm2(x)
		if err != nil || norm != want {
			t.Errorf("%s: the norm is %v and not %v, %v", name, norm, want, err)
		}
		if _, norm, err = rt.Constrain(x, x, want/2); err != nil || norm != want {
			t.Errorf("%s: constrained, the norm was %v and not %v, %v", name, norm, want, err)
		}
		if half == 0 {
			half = x[0]
		}
		for i, v := range x {
			if v != half || !(v > 0.4999999 && v <= 0.5) { // rounded so that the norm is within the radius
				t.Errorf("%s: value %d of %d is %v", name, i, n, v)
				break
			}
		}
		t.Logf("%s: %v", name, time.Since(begin))
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	}
}

// free is how much memory there is to take, as the system and the process's group say.
func free(t *testing.T) int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 {
			least = kib << 10
		}
	}
	var limit, used int64
	for name, to := range map[string]*int64{"max": &limit, "current": &used} {
		text, _ := os.ReadFile("/sys/fs/cgroup/memory." + name)
		fmt.Sscan(string(text), to) // "max", or no file: no limit
	}
	if limit > 0 {
		least = min(least, limit-used)
	}
	return least
}
