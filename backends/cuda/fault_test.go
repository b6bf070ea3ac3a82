// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/runtime"
)

// A driver that is not there, too old, or does not let us in is no failure: the report has the reason, and the CPU answers. Each in a process of its own, as a driver is asked once.
func TestNoUse(t *testing.T) {
	faking(t)
	for _, c := range []struct{ name, variable, state, reason string }{
		{"NoDriver", driverVariable + "=/nowhere/libcuda.so.1", "no device", "no NVIDIA driver"},
		{"NotADriver", driverVariable + "=" + folder() + "/libsetun_cuda.so", "no device", "too old: it has no cuInit"},
		{"RelativeDriver", driverVariable + "=libcuda_fake.so", "no device", "not an absolute path"},
		{"DriverTooOld", "SETUN_CUFAKE=driver=10010", "no device", "too old: it serves CUDA 10.1"},
		{"DriverTooOldForTheKernels", "SETUN_CUFAKE=fault=cuModuleLoadDataEx:1:222", "failed", "222"},
		{"NoDevice", "SETUN_CUFAKE=devices=0", "no device", "100"},
		{"NoneListed", "SETUN_CUFAKE=fault=cuDeviceGetCount:1:100", "no device", "100"},
		{"DeviceTooOld", "SETUN_CUFAKE=capability=61", "failed", "capability 6.1"},
		{"NoPermission", "SETUN_CUFAKE=fault=cuInit:1:304", "no device", "304"},
		{"NoPermissionUnknown", "SETUN_CUFAKE=fault=cuInit:1:999", "no device", "999"},
		{"NoPermissionNoDevice", "SETUN_CUFAKE=fault=cuInit:1:100", "no device", "100"},
		{"ContextRefused", "SETUN_CUFAKE=fault=cuDevicePrimaryCtxRetain:1:101", "failed", "opening the device: the driver answers 101"},
		{"ContextUnknown", "SETUN_CUFAKE=fault=cuDevicePrimaryCtxRetain:1:999", "failed", "999"},
		{"ContextWithoutMemory", "SETUN_CUFAKE=fault=cuDevicePrimaryCtxRetain:1:2", "failed", "OUT_OF_MEMORY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := child(t, "TestNoUseInChild", c.variable)
			if want := fmt.Sprintf("state %q", c.state); !strings.Contains(text, want) || !strings.Contains(text, c.reason) {
				t.Errorf("no %s, %s in\n%s", want, c.reason, text)
			}
		})
	}
}

func TestNoUseInChild(t *testing.T) {
	if !inChild() {
		return
	}
	rt, err := runtime.Open(runtime.WithLibraries(folder()), runtime.WithCUDA(0), runtime.WithProfile(""), runtime.WithoutSaving())
	if err != nil {
		t.Fatal(err)
	}
	b := report(t, rt)
	t.Logf("state %q: %s", b.State, b.Reason)
	list := short()
	for i, want := range truth(t, list[:6]) {
		for _, c := range list {
			if c.name == i {
				if got, err := c.do(through{rt: rt}); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %v", c.name, err)
				}
			}
		}
	}
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
}

// try runs a task on a device in which there may be a fault: the result is that of pure Go, or an error that says what it is. It tells whether the device is still there.
func try(t *testing.T, where string, c task, b backends.Backend, want []byte) (err error) {
	t.Helper()
	got, err := c.do(b)
	switch {
	case err != nil && !typed(err):
		t.Errorf("%s: %s: %v", where, c.name, err)
	case err == nil && !bytes.Equal(got, want):
		t.Errorf("%s: %s: not the bits of pure Go", where, c.name)
	}
	return err
}

// closed closes a backend and looks whether all was given back.
func closed(t *testing.T, where string, b backends.Backend) {
	t.Helper()
	if b != nil {
		b.Close()
	}
	if n := fake.live(); n != 0 {
		t.Errorf("%s: %d things are left", where, n)
		fake.reset()
	}
}

// Every function of the driver fails at its nth call, for n = 1, 2 and 3, in every op: once with an error of the call, once with one of the device.
func TestEveryFunctionFails(t *testing.T) {
	faking(t)
	list := short()
	if testing.Short() {
		list = list[:4]
	}
	want := truth(t, list)
	count, failed := 0, 0
	for i, c := range list {
		for _, name := range driverFunctions(t) {
			if opening := regexp.MustCompile("^cu(Init|Driver|Device|Module|GetErrorName)"); i > 0 && opening.MatchString(name) {
				continue // no op calls it; the next test has it fail where it is called
			}
			for nth := 1; nth <= 3; nth++ {
				for _, code := range []int32{1, 999} {
					if code == 999 && nth == 2 {
						continue
					}
					where := fmt.Sprintf("%s:%d:%d", name, nth, code)
					b := mustOpen(t)
					fake.fault(name, nth, code)
					err := try(t, where, c, b, want[c.name])
					if count++; err != nil {
						failed++
					}
					if name == "cuDevicePrimaryCtxRelease_v2" {
						fake.fault(name, 0, 0) // otherwise nothing could be given back
					}
					if err != nil && !errors.Is(err, backends.ErrLost) { // it was the call's alone
						fake.fault(name, 0, 0)
						if again := try(t, where, c, b, want[c.name]); again != nil {
							t.Errorf("%s: %s: after %v also %v", where, c.name, err, again)
						}
					}
					b.Close()
					fake.fault(name, 0, 0)
					closed(t, where+": "+c.name, nil)
				}
			}
		}
	}
	t.Logf("%d calls, %d failed", count, failed)
	if failed == 0 {
		t.Error("no fault did anything")
	}
}

// The same while a device is opened.
func TestEveryFunctionFailsAtOpen(t *testing.T) {
	faking(t)
	mustOpen(t).Close()
	for _, name := range driverFunctions(t) {
		if name == "cuDevicePrimaryCtxRelease_v2" {
			continue
		}
		for nth := 1; nth <= 100; nth++ {
			fake.fault(name, nth, 1)
			b, a := attempt()
			fake.fault(name, 0, 0)
			if b == nil && a.State != plugin.Failed || b == nil && a.Reason == "" {
				t.Errorf("%s:%d: %s: %s", name, nth, a.State, a.Reason)
			}
			closed(t, fmt.Sprintf("%s:%d", name, nth), b)
			if b != nil {
				break
			}
		}
	}
}

// A long copy in pieces fails anywhere: what is in place stays as it was.
func TestLongCopyFails(t *testing.T) {
	faking(t)
	long := tasks()[len(tasks())-1]
	want := truth(t, []task{long})[long.name]
	for _, name := range []string{"cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuEventCreate", "cuEventRecord", "cuEventQuery", "cuMemAllocHost_v2"} {
		for nth := 1; nth <= 3; nth++ {
			for _, code := range []int32{2, 999} {
				where := fmt.Sprintf("%s:%d:%d", name, nth, code)
				b := mustOpen(t)
				fake.fault(name, nth, code)
				err := try(t, where, long, b, want)
				fake.fault(name, 0, 0)
				if again := try(t, where, long, b, want); again != nil && !errors.Is(err, backends.ErrLost) {
					t.Errorf("%s: after %v also %v", where, err, again)
				}
				closed(t, where, b)
			}
		}
	}
}

// Memory ends with the nth allocation of a call, for every one of them: the device's, and the host's that it pins.
func TestOutOfMemoryAtNth(t *testing.T) {
	faking(t)
	want := truth(t, short())
	for _, c := range short() {
		for _, name := range []string{"cuMemAlloc_v2", "cuMemAllocHost_v2"} {
			failed := 0
			for nth := 1; nth <= 12; nth++ {
				b := mustOpen(t)
				for i := range 400 { // and the next ones: neither another try nor smaller pieces help
					fake.fault(name, nth+i, 2)
				}
				where := fmt.Sprintf("%s:%d", name, nth)
				err := try(t, where, c, b, want[c.name])
				fake.fault(name, 0, 0)
				if err != nil {
					if failed++; !errors.Is(err, backends.ErrMemory) {
						t.Errorf("%s: %s: %v", where, c.name, err)
					}
					if again := try(t, where, c, b, want[c.name]); again != nil {
						t.Errorf("%s: %s: with memory again: %v", where, c.name, again)
					}
				}
				closed(t, where, b)
				if err == nil && nth > failed+4 {
					break
				}
			}
			if failed == 0 {
				t.Errorf("%s: %s was never missed", c.name, name)
			}
		}
	}
}

// Others have taken the memory: every call is answered by the CPU, and by the device when there is memory again.
func TestAllMemoryTaken(t *testing.T) {
	faking(t)
	list := short()
	want := truth(t, list)
	rt := routed(t)
	fake.memory(0)
	for range 2 {
		for _, c := range list {
			if err := try(t, "no memory", c, through{rt: rt}, want[c.name]); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
	if b := report(t, rt); b.State != "loaded" || b.Device.Taken != 0 || b.Device.Launches != 0 {
		t.Errorf("%+v", b)
	}
	fake.memory(256 << 20)
	time.Sleep(150 * time.Millisecond) // an arm that had no memory rests for a tenth of a second
	for _, c := range list {
		before := fake.launches()
		if err := try(t, "memory again", c, through{rt: rt}, want[c.name]); err != nil || fake.launches() == before {
			t.Errorf("%s: the device was not asked again (%v)", c.name, err)
		}
	}
}

// With little memory, what idle calls hold is given up for the next one; none is refused for want of it that fits.
func TestLittleMemory(t *testing.T) {
	faking(t)
	list := short()
	want := truth(t, list)
	b := mustOpen(t)
	fake.memory(2 << 20)
	var wait sync.WaitGroup
	for i := range 4 { // lanes for as many, each with what it had last
		wait.Go(func() { list[i].do(b) })
	}
	wait.Wait()
	for range 3 {
		for _, c := range list {
			if err := try(t, "2 MiB", c, b, want[c.name]); err != nil {
				t.Error(err)
			}
		}
	}
	d := backends.DeviceOf(b)
	at, err := d.Alloc(2 << 20)
	if err != nil {
		t.Errorf("all of it for a buffer: %v", err)
	}
	if err := try(t, "full", list[2], b, want[list[2].name]); !errors.Is(err, backends.ErrMemory) {
		t.Errorf("beside a buffer of all memory: %v", err)
	}
	if err := d.Free(at); err != nil {
		t.Error(err)
	}
	closed(t, "little memory", b)
}

// lost runs a task on a runtime with a fault that takes the device with it: the CPU answers that call and all later ones, the report says why, and nothing is started there any more.
func lost(t *testing.T, c task, reason string, arrange, mend func()) {
	t.Helper()
	list := short()
	rt := routed(t)
	want := truth(t, list)
	arrange()
	err := try(t, reason, c, through{rt: rt}, truth(t, []task{c})[c.name])
	mend()
	if err != nil {
		t.Errorf("%s: %v", c.name, err)
	}
	b := report(t, rt)
	if b.State != "lost" || !strings.Contains(b.Reason, reason) || b.Device == nil || b.Device.Lost == 0 {
		t.Errorf("%s: %+v, %+v", c.name, b, b.Device)
	}
	before := fake.launches()
	for _, c := range list {
		if err := try(t, "after "+reason, c, through{rt: rt}, want[c.name]); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if fake.launches() != before {
		t.Errorf("%s: a lost device was asked again", c.name)
	}
	begin := time.Now()
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("closing took %v", took)
	}
}

func each(t *testing.T, run func(t *testing.T, c task)) {
	for _, c := range short() {
		if c.kind == "cuda" {
			t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) { run(t, c) })
		}
	}
}

func TestLaunchFailure(t *testing.T) {
	faking(t)
	each(t, func(t *testing.T, c task) {
		lost(t, c, "719", func() { fake.fault("cuLaunchKernel", 1, 719) }, func() { fake.fault("cuLaunchKernel", 0, 0) })
		if n := fake.live(); n != 0 {
			t.Errorf("%d things are left", n)
		}
	})
}

// A launch that is refused costs that call's try on the device, and not the device.
func TestLaunchRefused(t *testing.T) {
	faking(t)
	list := short()
	want := truth(t, list)
	for _, c := range list {
		rt := routed(t)
		fake.fault("cuLaunchKernel", 1, 701)
		if err := try(t, "701", c, through{rt: rt}, want[c.name]); err != nil {
			t.Error(err)
		}
		if b := report(t, rt); b.State != "loaded" {
			t.Errorf("%s: %+v", c.name, b)
		}
		rt.Close()
	}
}

func TestStickyError(t *testing.T) {
	faking(t)
	names := kernelNames(t)
	each(t, func(t *testing.T, c task) {
		lost(t, c, "700", func() {
			for _, k := range names {
				fake.fault(k, 1, 700)
			}
		}, func() {
			for _, k := range names {
				fake.fault(k, 0, 0)
			}
		})
		if n := fake.live(); n != 0 {
			t.Errorf("%d things are left", n)
		}
	})
}

// The device fails, or another part of the program has reset it: its context is destroyed, or is none any more.
func TestF18F19DeviceLost(t *testing.T) {
	faking(t)
	each(t, func(t *testing.T, c task) {
		for _, code := range []int32{999, 709, 201} {
			lost(t, c, fmt.Sprint(code), func() { fake.fault("cuStreamQuery", 1, code) }, func() { fake.fault("cuStreamQuery", 0, 0) })
			if n := fake.live(); n != 0 {
				t.Errorf("%d: %d things are left", code, n)
			}
		}
	})
}

// A kernel that does not end: the call is answered by the CPU when its time is over, and nothing waits for the device any more. In a process of its own, as the device is given up for all of it.
func TestKernelNeverEnds(t *testing.T) {
	faking(t)
	each(t, func(t *testing.T, c task) {
		child(t, "TestKernelNeverEndsInChild", "SETUN_TEST_CUDA_TASK="+c.name, "SETUN_CUDA_TIMEOUT_MS=100")
	})
	for _, name := range []string{"update method=1", "step least-squares", "quantize with one scale"} {
		child(t, "TestKernelNeverEndsInChild", "SETUN_TEST_CUDA_TASK=pieces of "+name, "SETUN_CUDA_TIMEOUT_MS=100")
	}
}
