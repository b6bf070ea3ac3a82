// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/conform"
	"github.com/setun-compute/setun/internal/plugin"
)

// driverVariable names a library that stands in for the driver: kernels then run on the processor, a hundred times slower.
const driverVariable = "SETUN_CUDA_DRIVER"

// device opens the first device with the library that was built in this checkout, or skips the test and says why. SETUN_TEST_CUDA=require makes that a failure.
func device(t testing.TB) backends.Backend {
	t.Helper()
	missing := t.Skipf
	if os.Getenv("SETUN_TEST_CUDA") == "require" {
		missing = t.Fatalf
	}
	dir := os.Getenv("SETUN_TEST_LIBRARIES")
	if dir == "" {
		dir, _ = filepath.Abs("../../native/build/release")
	}
	list, tried := Open([]plugin.Place{{Path: dir, Origin: "test"}}, []int{0}, Fast{Wanted: true, CUBLAS: cublasOf()})
	switch last := tried[len(tried)-1]; last.State {
	case plugin.Loaded:
	case plugin.Missing, plugin.NoDevice:
		missing("no CUDA: %s: %s", last.State, last.Reason)
	default:
		t.Fatalf("%s: %s: %s", last.Path, last.State, last.Reason)
	}
	t.Cleanup(func() { list[0].Close() })
	return list[0]
}

// cublasOf is the choice of cuBLAS: on a stand-in for the driver the stand-in for that, which lies beside it.
func cublasOf() string {
	if driver := os.Getenv(driverVariable); driver != "" {
		return filepath.Join(filepath.Dir(driver), "libcublas_fake.so")
	}
	return os.Getenv(CUBLASVariable)
}

// TestDeviceConforms is the suite on every kernel: all of it on a GPU; where the driver is a stand-in a sample, and the whole of the ops between products, which are quick.
func TestDeviceConforms(t *testing.T) {
	b := device(t)
	info, err := backends.DeviceOf(b).Info()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", info)
	arms, o := conform.Arms(b), conform.Options{Large: !testing.Short(), Short: testing.Short(), Random: 300}
	if os.Getenv(driverVariable) != "" {
		o = conform.Options{Short: true, Random: 10}
		layers := slices.DeleteFunc(slices.Clone(arms), func(a conform.Arm) bool { return a.Kernel.Op < backends.OpRMSNorm })
		conform.CheckWith(t, layers, conform.Options{Short: testing.Short(), Random: 30})
		arms = slices.DeleteFunc(arms, func(a conform.Arm) bool { return a.Kernel.Op >= backends.OpRMSNorm })
	}
	conform.CheckWith(t, arms, o)
	after, err := backends.DeviceOf(b).Info()
	if err != nil || after.Lost != 0 {
		t.Fatalf("after the suite: %+v, %v", after, err)
	}
	if after.Launches == info.Launches {
		t.Error("no kernel was started on the device")
	}
}

func TestMemory(t *testing.T) {
	d := backends.DeviceOf(device(t))
	x := make([]float32, 10_000)
	for i := range x {
		x[i] = float32(i)
	}
	at, err := d.Alloc(80_000)
	if err != nil {
		t.Fatal(err)
	}
	y := make([]float32, 5000)
	for _, err := range []error{
		d.Upload(at, backends.Bytes(x)),
		d.Copy(at+40_000, at, 40_000),
		d.Download(backends.Bytes(y), at+40_000+20_000),
		d.Free(at),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(y, x[5000:]) {
		t.Errorf("came back as %v…", y[:3])
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string][]int{"": {0}, "all": {All}, "none": nil, "0": {0}, "1, 0": {1, 0}} {
		if got, err := Parse(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"-1", "0,", "x", "all,1"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
	if got := chosen([]int{2, All, 9}, 4); !slices.Equal(got, []int{2, 0, 1, 3, 9}) {
		t.Errorf("chosen %v", got)
	}
}

// FuzzParse reads choices of devices. What is taken is what stands there, and no device is opened twice.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "all", "none", "0", " 1, 0 ,7", "-1", "0,", "+5", "9223372036854775808", "0x1", "1_0", "\x00", "all,0"} {
		f.Add(text, 3)
	}
	f.Fuzz(func(t *testing.T, text string, count int) {
		list, err := Parse(text)
		if err != nil {
			if !errors.Is(err, backends.ErrArgument) || list != nil {
				t.Fatalf("%v, %v", list, err)
			}
			return
		}
		words := strings.Split(text, ",")
		for i, n := range list {
			if n != All && (n < 0 || strings.TrimSpace(text) != "" && strings.TrimLeft(strings.TrimSpace(words[i]), "0") != strings.TrimLeft(strconv.Itoa(n), "0")) {
				t.Fatalf("%q is %v", text, list)
			}
		}
		seen := map[int]bool{}
		for _, n := range chosen(list, max(0, count)) {
			if seen[n] || n < 0 {
				t.Fatalf("%q: %v of %d", text, list, count)
			}
			seen[n] = true
		}
	})
}
