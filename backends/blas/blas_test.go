// SPDX-License-Identifier: Apache-2.0

package blas

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/plugin"
)

// That its products are within their bound is tested in backends/conform.
func TestOpenFindsAKernel(t *testing.T) {
	b, tried := Open(os.Getenv(Variable))
	if b == nil {
		t.Skipf("no BLAS on this machine: %+v", tried)
	}
	t.Logf("%+v", tried[len(tried)-1])
	if k := b.Kernels()[0]; !k.Fast || k.Threads < 1 || k.Name == "" {
		t.Errorf("%+v", k)
	}
}

func TestChoices(t *testing.T) {
	if b, tried := Open("none"); b != nil || len(tried) != 0 {
		t.Errorf("none: %v, %v", b, tried)
	}
	junk := filepath.Join(t.TempDir(), "libblas.so")
	if err := os.WriteFile(junk, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"libopenblas.so.0", "./libblas.so", "/nowhere/libblas.so", junk} {
		b, tried := Open(path)
		if b != nil || len(tried) != 1 || tried[0].State != plugin.Refused || !errors.Is(tried[0].Err, backends.ErrLibrary) || tried[0].Reason == "" {
			t.Errorf("%s: %v, %+v", path, b, tried)
		}
	}
}

// TestSelfTestNotices gives wrong products and a changed float environment.
func TestSelfTestNotices(t *testing.T) {
	b := &Backend{kernel: backends.Kernel{Op: backends.OpMatMul, Name: "wrong"}}
	b.sgemm = func(_, _, _, m, n, _ int32, _ float32, _ *float32, _ int32, _ *float32, _ int32, _ float32, c *float32, ldc int32) {
		*c = 12345
	}
	if err := selfTest(b); !errors.Is(err, backends.ErrLibrary) || !strings.Contains(err.Error(), "value 0 of a product is 12345") {
		t.Errorf("%v", err)
	}
	if !environment(1, 0x1p-53, 0x1p-1060) || environment(1, 0x1p-52, 0x1p-1060) || environment(1, 0x1p-54, 0x1p-1060) || environment(1, 0x1p-53, 0) {
		t.Error("the float environment is not judged rightly")
	}
}

func TestOtherOpsAreNotSupported(t *testing.T) {
	b := new(Backend)
	for _, err := range []error{
		b.Quantize(backends.Kernel{}, nil), b.Constrain(backends.Kernel{}, nil), b.Reduce(backends.Kernel{Op: backends.OpDot}, nil), b.KMeans(t.Context(), backends.Kernel{}, nil),
		b.MatMul(backends.Kernel{Op: backends.OpMatMul}, &backends.MatMul{M: 1 << 31, N: 1, K: 1, Batch: 1}),
	} {
		if !errors.Is(err, backends.ErrUnsupported) {
			t.Errorf("%v", err)
		}
	}
}
