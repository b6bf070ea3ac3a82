// SPDX-License-Identifier: Apache-2.0

package cpp

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/plugin"
)

// built returns the folder of the library that `make native` built in this checkout.
func built(t testing.TB) []plugin.Place {
	t.Helper()
	dir := os.Getenv("SETUN_TEST_LIBRARIES")
	if dir == "" {
		dir, _ = filepath.Abs("../../native/build/release")
	}
	if _, err := os.Stat(filepath.Join(dir, plugin.FileName(Name))); err != nil {
		if os.Getenv("SETUN_TEST_NATIVE") == "require" {
			t.Fatalf("native libraries are required: %v", err)
		}
		t.Skipf("no native library (run make native): %v", err)
	}
	return []plugin.Place{{Path: dir, Origin: "test"}}
}

// That every kernel gives the bits of pure Go is tested in backends/conform.
func TestEveryNumberOfThreadsIsThere(t *testing.T) {
	counts := []int{1, 2, 3, 7, 16}
	b, tried := Open(built(t), "", func(threads int) bool { return slices.Contains(counts, threads) })
	if b == nil {
		t.Fatalf("%+v", tried)
	}
	defer b.Close()
	if got := len(b.Kernels()); got < len(counts)*len(backends.Ops()) {
		t.Errorf("%d kernels for %d numbers of threads: %v", got, len(counts), b.Kernels())
	}
}

func TestUsefulNumbersOfThreads(t *testing.T) {
	for cores, want := range map[int][]int{1: nil, 2: {2}, 6: {2, 4, 6}, 12: {2, 4, 8, 12}, 16: {2, 4, 8, 16}} {
		var got []int
		for _, n := range []int{1, 2, 3, 4, 6, 7, 8, 12, 16, 24} {
			if Useful(cores)(n) {
				got = append(got, n)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d cores: %v, want %v", cores, got, want)
		}
	}
}

func TestLevel(t *testing.T) {
	for name, want := range map[string]string{"avx512x2": "avx512", "avx2x16": "avx2", "sse42x3": "sse42", "neonx1": "neon", "scalarx7": "scalar"} {
		if got := Level(backends.Kernel{Name: name}); got != want {
			t.Errorf("%s: level %q, want %q", name, got, want)
		}
	}
}

// A context that is gone must not be used: the call fails, and nothing is touched.
func TestCallsAfterCloseFail(t *testing.T) {
	b, tried := Open(built(t), "", func(threads int) bool { return threads == 2 })
	if b == nil {
		t.Fatalf("%+v", tried)
	}
	b.Close()
	for _, k := range b.Kernels() {
		if k.Op != backends.OpNorm2 {
			continue
		}
		if err := b.Reduce(k, &backends.Reduce{X: make([]float32, 10_000)}); !errors.Is(err, backends.ErrBackend) || !strings.Contains(err.Error(), "closed") {
			t.Errorf("%s: %v", k.Name, err)
		}
	}
}
