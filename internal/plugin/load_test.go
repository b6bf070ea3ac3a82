// SPDX-License-Identifier: Apache-2.0

//go:build unix

package plugin

import (
	"debug/elf"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
)

// tiny is a library with one kernel: a norm2 that knows only vectors of ones.
const tiny = `
#include <math.h>
#include <stddef.h>
#include <setun/device.h>
struct old_kernel { // of the first libraries
    const char *name;
    uint32_t op, threads;
    int32_t (*run)(setun_ctx *ctx, void *args);
};
static int32_t norm2(setun_ctx *ctx, void *p) {
    (void)ctx;
    setun_reduce *a = p;
    if (a->call.size != sizeof *a) return SETUN_EINVAL;
    if (a->n == 3) { a->call.message[0] = 'n'; a->call.message[1] = 'o'; a->call.message[2] = 0; return FAILURE; }
    if (a->x[0] != a->x[0]) { a->call.bad_index = 0; return SETUN_ENONFINITE; }
    a->result = (double)a->n;
    return SETUN_OK;
}
static const KERNEL kernels[] = {{"ones", SETUN_OP_NORM2, 1, norm2}, {"later", 99, 1, norm2}};
static const setun_table table = {MAGIC, SIZE, ABI, sizeof(KERNEL), "tiny", "1", "test", (const setun_kernel *)KERNELS, 2, 0, 0, 0, DEVICE};
const setun_table *ENTRY(uint32_t abi);
const setun_table *ENTRY(uint32_t abi) { return abi == SETUN_ABI ? TABLE : (const setun_table *)0; }
`

// library builds tiny with some macros changed and returns its path.
func library(t testing.TB, change ...string) string {
	t.Helper()
	return build(t, tiny, arguments(change...)...)
}

// arguments are those of the compiler for tiny.
func arguments(change ...string) []string {
	macros := map[string]string{"MAGIC": "SETUN_MAGIC", "SIZE": "sizeof(setun_table)", "ABI": "SETUN_ABI", "KERNELS": "kernels", "TABLE": "&table", "ENTRY": "setun_backend", "FAILURE": "SETUN_ENOMEM", "KERNEL": "setun_kernel", "DEVICE": "0"}
	for i := 0; i < len(change); i += 2 {
		macros[change[i]] = change[i+1]
	}
	args := []string{"-shared", "-fPIC", "-Wno-unused-const-variable", "-Wno-redundant-decls", "-Wno-missing-field-initializers"}
	for k, v := range macros {
		args = append(args, "-D"+k+"="+v)
	}
	return args
}

func TestLoadAndCall(t *testing.T) {
	b, tried := Load("tiny", []Place{{Path: filepath.Join(t.TempDir(), "nowhere"), Origin: "option"}, {Path: library(t), File: true, Origin: "option"}})
	if b == nil {
		t.Fatalf("not loaded: %+v", tried)
	}
	if len(tried) != 2 || tried[0].State != Missing || tried[1].State != Loaded {
		t.Errorf("report %+v", tried)
	}
	ks := b.Kernels()
	if len(ks) != 1 || ks[0].Name != "ones" || ks[0].Op != backends.OpNorm2 {
		t.Fatalf("kernels %+v: one is known, the op 99 is of a newer header", ks)
	}
	a := backends.Reduce{X: []float32{1, 1}}
	if err := b.Reduce(ks[0], &a); err != nil || a.Result != 2 {
		t.Errorf("result %v, error %v", a.Result, err)
	}
	if err := b.Reduce(ks[0], &backends.Reduce{X: []float32{1, 1, 1}}); !errors.Is(err, backends.ErrBackend) || !strings.Contains(err.Error(), "no") {
		t.Errorf("failure: %v", err)
	}
	nan := float32(math.NaN())
	if err := b.Reduce(ks[0], &backends.Reduce{X: []float32{nan}}); !errors.Is(err, backends.ErrNonFinite) || !strings.Contains(err.Error(), "x[0] = NaN") {
		t.Errorf("non-finite: %v", err)
	}
	if n := testing.AllocsPerRun(1000, func() { b.Reduce(ks[0], &a) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

// TestFirstLibrariesLoad: they knew neither flags of kernels nor devices. What lies behind their table is none of ours.
func TestFirstLibrariesLoad(t *testing.T) {
	b, tried := Load("tiny", []Place{{Path: library(t, "KERNEL", "struct old_kernel", "SIZE", "offsetof(setun_table, device)", "DEVICE", "(const setun_device *)1"), File: true}})
	if b == nil {
		t.Fatalf("%+v", tried)
	}
	a := backends.Reduce{X: []float32{1, 1}}
	if k := b.Kernels()[0]; len(b.Kernels()) != 1 || k.Name != "ones" || k.Fast || b.Device() != nil || b.Reduce(k, &a) != nil || a.Result != 2 {
		t.Errorf("kernels %+v, device %v, result %v", b.Kernels(), b.Device(), a.Result)
	}
}

// Failures of which more is known are still those of the backend.
func TestWhatAFailureWraps(t *testing.T) {
	for status, want := range map[string]error{"SETUN_ENOMEM": backends.ErrMemory, "SETUN_ELOST": backends.ErrLost, "77": backends.ErrBackend} {
		b, tried := Load("tiny", []Place{{Path: library(t, "FAILURE", status), File: true}})
		if b == nil {
			t.Fatalf("%+v", tried)
		}
		err := b.Reduce(b.Kernels()[0], &backends.Reduce{X: []float32{1, 1, 1}})
		if !errors.Is(err, want) || !errors.Is(err, backends.ErrBackend) || errors.Is(err, backends.ErrLost) != (want == backends.ErrLost) || errors.Is(err, backends.ErrMemory) != (want == backends.ErrMemory) {
			t.Errorf("%s: %v", status, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	good := library(t)
	bytes, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	file := func(data []byte) string {
		path := filepath.Join(t.TempDir(), "lib.so")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	other := append([]byte(nil), bytes...)
	other[18] = byte(elf.EM_S390)
	cases := []struct {
		name, path string
		state      State
		sentinel   error
		word       string
		elfOnly    bool
	}{
		{"missing", filepath.Join(t.TempDir(), "no.so"), Missing, backends.ErrLibrary, "no such file", false},
		{"relative", "lib.so", Refused, backends.ErrLibrary, "not absolute", false},
		{"folder", t.TempDir(), Refused, backends.ErrLibrary, "regular file", false},
		{"text", file([]byte("hello")), Refused, backends.ErrLibrary, "not a shared library", true},
		{"empty", file(nil), Refused, backends.ErrLibrary, "not a shared library", true},
		{"truncated", file(bytes[:len(bytes)/4]), Refused, backends.ErrLibrary, "", true},
		{"other machine", file(other), Refused, backends.ErrLibrary, "built for", true},
		{"no symbol", library(t, "ENTRY", "other_entry"), Refused, backends.ErrLibrary, "setun_backend", false},
		{"null table", library(t, "TABLE", "(const setun_table *)0"), Failed, backends.ErrABIMismatch, "does not serve", false},
		{"magic", library(t, "MAGIC", "7"), Failed, backends.ErrABIMismatch, "magic", false},
		{"short table", library(t, "SIZE", "16"), Failed, backends.ErrABIMismatch, "table size is 16", false},
		{"version", library(t, "ABI", "9"), Failed, backends.ErrABIMismatch, "version is 9, wanted 1", false},
		{"short device", library(t, "DEVICE", "&(const setun_device){.size = 8}"), Failed, backends.ErrABIMismatch, "device's table is 8", false},
		{"null kernels", library(t, "KERNELS", "0"), Failed, backends.ErrABIMismatch, "kernel count", false},
	}
	for _, c := range cases {
		if c.elfOnly && runtime.GOOS != "linux" {
			t.Logf("%s: not an ELF system", c.name)
			continue
		}
		b, tried := Load("tiny", []Place{{Path: c.path, File: true}})
		if b != nil || len(tried) != 1 {
			t.Errorf("%s: loaded, or %d attempts", c.name, len(tried))
			continue
		}
		if a := tried[0]; a.State != c.state || !errors.Is(a.Err, c.sentinel) || !strings.Contains(a.Reason, c.word) {
			t.Errorf("%s: %s, %q, want %s with %q", c.name, a.State, a.Reason, c.state, c.word)
		}
	}
}

// BenchmarkNativeCall is the price of crossing into a native kernel and back, its argument block included: the kernel does nothing.
func BenchmarkNativeCall(b *testing.B) {
	lib, tried := Load("tiny", []Place{{Path: library(b), File: true}})
	if lib == nil {
		b.Fatal(tried)
	}
	k, a := lib.Kernels()[0], backends.Reduce{X: []float32{1, 1}}
	b.ReportAllocs()
	for b.Loop() {
		lib.Reduce(k, &a)
	}
}
