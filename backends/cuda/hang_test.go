// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
)

func TestKernelNeverEndsInChild(t *testing.T) {
	if !inChild() {
		return
	}
	faking(t)
	begin := time.Now()
	for _, c := range short() {
		if c.name == os.Getenv("SETUN_TEST_CUDA_TASK") {
			lost(t, c, "did not end", func() { fake.hang(1) }, func() {})
		}
	}
	for _, c := range cutTasks() { // with two pieces on the device
		if "pieces of "+c.name == os.Getenv("SETUN_TEST_CUDA_TASK") {
			lost(t, c, "did not end", func() { fake.memory(little); fake.hang(1) }, func() {})
		}
	}
	b, a := attempt()
	if b != nil || !strings.Contains(a.Reason, "did not end") {
		t.Errorf("opened again: %s: %s", a.State, a.Reason)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	fake.hang(0)
}

// While a kernel does not end other calls are on their way, and buffers are there: all of them come back, and so does Close.
func TestKernelNeverEndsBesideOthers(t *testing.T) {
	faking(t)
	child(t, "TestKernelNeverEndsBesideOthersInChild", "SETUN_CUDA_TIMEOUT_MS=100")
}

func TestKernelNeverEndsBesideOthersInChild(t *testing.T) {
	if !inChild() {
		return
	}
	faking(t)
	list := short()
	want := truth(t, list)
	rt := routed(t)
	x, err := rt.NewBuffer(1000)
	if err == nil {
		_, err = x.Norm2()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list { // lanes have memory
		try(t, "before", c, through{rt: rt}, want[c.name])
	}
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Go(func() {
			for i := range list {
				if g == 0 && i == 2 {
					fake.hang(1)
				}
				c := list[(i+g)%len(list)]
				if err := try(t, "beside", c, through{rt: rt}, want[c.name]); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			}
		})
	}
	wait.Wait()
	if b := report(t, rt); b.State != "lost" {
		t.Errorf("%+v", b)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
}

// Sixteen goroutines with mixed ops share a device.
func TestConcurrentCalls(t *testing.T) {
	faking(t)
	list := short()
	want := truth(t, list)
	rt := routed(t)
	before := fake.launches()
	var wait sync.WaitGroup
	for g := range 16 {
		wait.Go(func() {
			for i := range 6 {
				c := list[(5*g+i)%len(list)]
				if err := try(t, "beside others", c, through{rt: rt}, want[c.name]); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			}
		})
	}
	wait.Wait()
	if n := fake.launches() - before; n < 16*6 {
		t.Errorf("%d kernels were started on the device", n)
	}
	if b := report(t, rt); b.State != "loaded" {
		t.Errorf("%+v", b)
	}
	rt.Close()
	if n := fake.live(); n != 0 {
		t.Errorf("%d things are left", n)
	}
}

// The same while functions of the driver fail now and then: every result is right.
func TestConcurrentFaults(t *testing.T) {
	faking(t)
	list := short()
	want := truth(t, list)
	b := mustOpen(t)
	names := []string{"cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuLaunchKernel", "cuMemsetD8Async", "cuMemAllocHost_v2", "cuStreamCreate"}
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Go(func() {
			for i := range 6 {
				fake.fault(names[(g+i)%len(names)], 3+g, 2)
				c := list[(5*g+i)%len(list)]
				try(t, "beside others", c, b, want[c.name])
			}
		})
	}
	wait.Wait()
	for _, name := range names {
		fake.fault(name, 0, 0)
	}
	for _, c := range list {
		if err := try(t, "afterwards", c, b, want[c.name]); err != nil {
			t.Error(err)
		}
	}
	if i, err := backends.DeviceOf(b).Info(); err != nil || i.Lost != 0 {
		t.Errorf("%+v, %v", i, err)
	}
	closed(t, "faults", b)
}
