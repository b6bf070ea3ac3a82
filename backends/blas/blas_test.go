// SPDX-License-Identifier: Apache-2.0

package blas

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/plugin"
)

// That its products are within their bound is tested in backends/conform.
func TestOpenFindsAKernel(t *testing.T) {
	b, tried := Open(os.Getenv(Variable), nil)
	if b == nil {
		t.Skipf("no BLAS on this machine: %+v", tried)
	}
	t.Logf("%+v", tried[len(tried)-1])
	if k := b.Kernels()[0]; !k.Fast || k.Threads < 1 || k.Name == "" {
		t.Errorf("%+v", k)
	}
}

func TestChoices(t *testing.T) {
	if b, tried := Open("none", nil); b != nil || len(tried) != 0 {
		t.Errorf("none: %v, %v", b, tried)
	}
	junk := filepath.Join(t.TempDir(), "libblas.so")
	if err := os.WriteFile(junk, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"libopenblas.so.0", "./libblas.so", "/nowhere/libblas.so", junk} {
		b, tried := Open(path, nil)
		if b != nil || len(tried) != 1 || tried[0].State != plugin.Refused || !errors.Is(tried[0].Err, backends.ErrLibrary) || tried[0].Reason == "" {
			t.Errorf("%s: %v, %+v", path, b, tried)
		}
	}
}

// TestFloatEnvironmentIsGuarded loads a library that flushes subnormal values from the time it is loaded, and one that does it when it multiplies.
func TestFloatEnvironmentIsGuarded(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil || runtime.GOARCH != "amd64" {
		t.Skipf("needs a C compiler and amd64: %s, %v", runtime.GOARCH, err)
	}
	const source = `#include <xmmintrin.h>
static void flush(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }
static void nothing(void) {}
__attribute__((constructor)) static void loaded(void) { (void)flush, (void)nothing, ON_LOAD(); }
void cblas_sgemm(void) { ON_CALL(); }`
	for _, c := range []struct {
		load, call, when string
		state            plugin.State
	}{{"flush", "nothing", "when it was loaded", plugin.Refused}, {"nothing", "flush", "in its self-test", plugin.Failed}} {
		dir := t.TempDir()
		path := filepath.Join(dir, "libblas.so")
		if err := os.WriteFile(filepath.Join(dir, "blas.c"), []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		if msg, err := exec.Command(cc, "-shared", "-fPIC", "-DON_LOAD="+c.load, "-DON_CALL="+c.call, filepath.Join(dir, "blas.c"), "-o", path).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, msg)
		}
		b, tried := Open(path, nil)
		if b != nil || tried[0].State != c.state || !errors.Is(tried[0].Err, plugin.ErrFloatEnvironment) || !strings.Contains(tried[0].Reason, c.when) || !strings.Contains(tried[0].Reason, "flush to zero") {
			t.Errorf("%+v: %+v", c, tried)
		}
		if !environment(1, 0x1p-53, 0x1p-1060) {
			t.Errorf("%+v: the environment is not what it was", c)
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
	beyond := int64(1) << 31 // what a BLAS's 32-bit sizes hold
	for _, err := range []error{
		b.Quantize(backends.Kernel{}, nil), b.Constrain(backends.Kernel{}, nil), b.Reduce(backends.Kernel{Op: backends.OpDot}, nil), b.KMeans(t.Context(), backends.Kernel{}, nil),
		b.MatMul(backends.Kernel{Op: backends.OpMatMul}, &backends.MatMul{M: int(beyond), N: 1, K: 1, Batch: 1}),
	} {
		if !errors.Is(err, backends.ErrUnsupported) {
			t.Errorf("%v", err)
		}
	}
}
