// SPDX-License-Identifier: Apache-2.0

package simdc

import (
	"os"
	"path/filepath"
	"testing"

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
func TestTheReferenceAndOneMoreLevelAreThere(t *testing.T) {
	there := 0
	for _, level := range []string{"avx512", "avx2", "sse42", "neon", "scalar"} {
		b, tried := Open(built(t), level)
		if b == nil {
			t.Fatalf("%+v", tried)
		}
		if len(b.Kernels()) > 0 {
			there++
		} else if level == "scalar" {
			t.Error("the scalar reference is missing")
		}
	}
	if there < 2 {
		t.Errorf("%d levels", there)
	}
}

func TestDefaultLeavesTheReferenceOut(t *testing.T) {
	b, _ := Open(built(t), "")
	for _, k := range b.Kernels() {
		if k.Name == "scalar" {
			t.Errorf("%v: the scalar reference is offered by default", k)
		}
	}
}

func TestUnknownLevelIsReported(t *testing.T) {
	b, tried := Open(built(t), "mmx")
	if len(b.Kernels()) != 0 || tried[len(tried)-1].Reason == "" {
		t.Errorf("kernels %v, reason %q", b.Kernels(), tried[len(tried)-1].Reason)
	}
}
