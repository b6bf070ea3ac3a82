// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cuda"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/runtime"
)

// The library asks a driver once how many devices it has: so these are in a process of their own, which has three.
func TestSeveralDevices(t *testing.T) {
	faking(t)
	for _, name := range []string{"DevicesAreChosen", "ForcedDevice", "DevicesSideBySide", "OperandsOnTwoDevices", "OneOfTwoDevicesIsLost", "CopyOnTheOtherDevice", "MemoryOfTwoDevices", "LinksOfTwoDevices"} {
		t.Run(name, func(t *testing.T) { child(t, "Test"+name+"InChild", "SETUN_CUFAKE=devices=3") })
	}
}

// several opens a runtime on the first two devices, with a kernel for each op that has a choice of its own.
func several(t *testing.T, kernels map[backends.Op]string, options ...runtime.Option) *runtime.Runtime {
	t.Helper()
	var rows []string
	for op, kernel := range kernels {
		rows = append(rows, fmt.Sprintf(`%q:[{"from":0,"kernel":%q}]`, op, kernel))
	}
	table := filepath.Join(t.TempDir(), "devices.json")
	if err := os.WriteFile(table, []byte(`{"setun_thresholds":1,"ops":{`+strings.Join(rows, ",")+`}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	rt, err := runtime.Open(append([]runtime.Option{runtime.WithLibraries(folder()), runtime.WithCUDA(0, 1), runtime.WithProfile(""), runtime.WithoutSaving(), runtime.WithThresholds(table)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt
}

// deviceOf is a device's row in the report.
func deviceOf(t *testing.T, rt *runtime.Runtime, name string) runtime.BackendReport {
	t.Helper()
	for _, b := range rt.Report().Backends {
		if b.Name == name && b.State != string(plugin.Missing) {
			return b
		}
	}
	t.Fatalf("there is no %s in the report", name)
	return runtime.BackendReport{}
}

func launches(t *testing.T, rt *runtime.Runtime, name string) int64 {
	t.Helper()
	return deviceOf(t, rt, name).Device.Launches
}

// SETUN_CUDA_DEVICES chooses devices: each has a row of its own in the report, in the order that was asked for.
func TestDevicesAreChosenInChild(t *testing.T) {
	if !inChild() {
		return
	}
	faking(t)
	for _, c := range []struct {
		variable string
		ordinals []int
		failed   string
	}{{"", []int{0}, ""}, {"0,1", []int{0, 1}, ""}, {"2,0", []int{2, 0}, ""}, {"all", []int{0, 1, 2}, ""}, {"1,7", []int{1}, "there is no device 7, of 3"}, {"none", nil, ""}} {
		t.Setenv(cuda.DevicesVariable, c.variable)
		rt, err := runtime.Open(runtime.WithLibraries(folder()), runtime.WithProfile(""), runtime.WithoutSaving())
		if err != nil {
			t.Fatal(err)
		}
		var ordinals []int
		failed := ""
		for _, b := range rt.Report().Backends {
			switch {
			case !strings.HasPrefix(b.Name, cuda.Name) || b.State == string(plugin.Missing):
			case b.State == string(plugin.Failed):
				failed += b.Reason
			case b.Device == nil:
				t.Errorf("%q: %+v", c.variable, b)
			default:
				ordinals = append(ordinals, b.Device.Ordinal)
				if b.Name != cuda.NameOf(b.Device.Ordinal) || b.Device.Name != fmt.Sprintf("fake device %d", b.Device.Ordinal) || !slices.Contains(b.Kernels, "norm2/cuda") {
					t.Errorf("%q: %+v, %+v", c.variable, b, b.Device)
				}
			}
		}
		if !slices.Equal(ordinals, c.ordinals) || !strings.Contains(failed, c.failed) || (c.failed == "") != (failed == "") {
			t.Errorf("%q: devices %v, failed: %q", c.variable, ordinals, failed)
		}
		rt.Close()
		if n := fake.live(); n != 0 {
			t.Errorf("%q: %d things are left", c.variable, n)
		}
	}
}

// A device that is forced does the work, and the other none.
func TestForcedDeviceInChild(t *testing.T) {
	if !inChild() {
		return
	}
	faking(t)
	list := short()
	want := truth(t, list)
	for _, force := range []string{"cuda:1", "cuda:1/cuda", "cuda"} {
		rt, err := runtime.Open(runtime.WithLibraries(folder()), runtime.WithCUDA(0, 1), runtime.WithProfile(""), runtime.WithForce(force))
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(force, "/")
		other := map[string]string{"cuda:1": "cuda", "cuda": "cuda:1"}[name]
		for _, c := range list {
			if err := try(t, force, c, through{rt: rt}, want[c.name]); err != nil {
				t.Errorf("%s: %s: %v", force, c.name, err)
			}
		}
		if a, b := launches(t, rt, name), launches(t, rt, other); a < int64(len(list)) || b != 0 {
			t.Errorf("%s: %d kernels on it, %d on the other", force, a, b)
		}
		rt.Close()
	}
}

// Every op with its bits on two devices at once, from many goroutines.
func TestDevicesSideBySideInChild(t *testing.T) {
	if !inChild() {
		return
	}
	faking(t)
	kernels := map[backends.Op]string{}
	for i, op := range backends.Ops() {
		kernels[op] = cuda.NameOf(i%2) + "/cuda"
	}
	list := short()
	want := truth(t, list)
	rt := several(t, kernels)
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Go(func() {
			for i := range list {
				c := list[(5*g+i)%len(list)]
				if err := try(t, "beside others", c, through{rt: rt}, want[c.name]); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			}
		})
	}
	wait.Wait()
	if a, b := launches(t, rt, "cuda"), launches(t, rt, "cuda:1"); a == 0 || b == 0 {
		t.Errorf("%d kernels on the one, %d on the other", a, b)
	}
	rt.Close()
	if n := fake.live(); n != 0 {
		t.Errorf("%d things are left", n)
	}
}

// Each device's memory is its own: one that is full leaves the other's calls alone, and a limit of one is not the other's.
func TestMemoryOfTwoDevicesInChild(t *testing.T) {
	if !inChild() {
		return
	}
	faking(t)
	list, tried := cuda.Open([]plugin.Place{{Path: folder(), Origin: "test"}}, []int{1, 0}, cuda.Fast{})
	if len(list) != 2 || list[0].Name() != "cuda:1" || list[1].Name() != "cuda" || list[0].Kernels()[0].Memory != 1 || list[1].Kernels()[0].Memory != 2 {
		t.Fatalf("%+v", tried)
	}
	one, zero := backends.DeviceOf(list[0]), backends.DeviceOf(list[1])
	for i, d := range []backends.Device{one, zero} {
		if info, err := d.Info(); err != nil || info.Ordinal != 1-i {
			t.Errorf("%+v, %v", info, err)
		}
	}
	at, err := one.Alloc(256 << 20) // all of it
	if err != nil {
		t.Fatal(err)
	}
	work := short()
	want := truth(t, work)
	for _, c := range work {
		if err := try(t, "beside a full device", c, list[1], want[c.name]); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := try(t, "full", work[0], list[0], want[work[0].name]); !errors.Is(err, backends.ErrMemory) {
		t.Errorf("on the full device: %v", err)
	}
	// An address of the one means nothing to the other.
	if err := zero.Download(make([]byte, 16), at); !errors.Is(err, backends.ErrBackend) {
		t.Errorf("another device's memory: %v", err)
	}
	if err := zero.Free(at); !errors.Is(err, backends.ErrBackend) {
		t.Errorf("another device's memory: %v", err)
	}
	if err := one.Free(at); err != nil {
		t.Error(err)
	}
	for _, b := range list {
		b.Close()
	}
	if n := fake.live(); n != 0 {
		t.Errorf("%d things are left", n)
	}
}

// Each device has a link of its own in what calibrate measures, and none when it is lost.
func TestLinksOfTwoDevicesInChild(t *testing.T) {
	if !inChild() {
		return
	}
	faking(t)
	rt := several(t, map[backends.Op]string{backends.OpNorm2: "cuda/cuda"})
	memories := func() (list []int) {
		links, err := rt.Links(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if list = append(list, int(l.Memory)); !(l.Launch > 0) || l.Up < 0 || l.Down < 0 {
				t.Errorf("%+v", l)
			}
		}
		return list
	}
	if list := memories(); !slices.Equal(list, []int{1, 2}) {
		t.Errorf("links of %v", list)
	}
	fake.fault("cuLaunchKernel", 1, 719)
	if _, err := rt.Norm2([]float32{3, 4}); err != nil {
		t.Error(err)
	}
	if list := memories(); !slices.Equal(list, []int{2}) {
		t.Errorf("links of %v, the first device is lost", list)
	}
}
