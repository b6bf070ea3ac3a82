// SPDX-License-Identifier: Apache-2.0

//go:build linux

package runtime

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/probe"
	"github.com/setun-compute/setun/internal/quarantine"
	"github.com/setun-compute/setun/quant"
)

// The ids are those of docs/failure-modes.md.

func TestGoodLibraryPasses(t *testing.T) {
	r := newRogue(t, "GOOD")
	rt, b := r.open(t)
	if b.State != "loaded" || !slices.Equal(b.Kernels, []string{"activations/avx2"}) || b.Reason != "" || b.Probe == nil || b.Probe.Source != "probe" || b.Probe.Kernels != 1 {
		t.Errorf("%+v, %+v", b, b.Probe)
	}
	answers(t, rt)
	if _, b = r.open(t); b.Probe.Source != "process" {
		t.Errorf("the second time: %+v", b.Probe)
	}
}

func TestF06ConstructorCrash(t *testing.T) {
	for name, words := range map[string][]string{"CTOR_SEGV": {"SIGSEGV", "loading"}, "CTOR_ABORT": {"SIGABRT", "loading"}, "CTOR_EXIT": {"without a result", "loading"}} {
		t.Run(name, func(t *testing.T) { newRogue(t, name).refuse(t, "failed", ErrProbe, words...) })
	}
}

func TestF07ConstructorHang(t *testing.T) {
	newRogue(t, "CTOR_HANG").refuse(t, "failed", ErrProbe, "did not end in time", "loading")
}

func TestF08MissingSymbol(t *testing.T) {
	newRogue(t, "NO_SYMBOL", "-DENTRY=other_entry").refuse(t, "refused", ErrProbe, "no symbol setun_backend")
}

func TestF09WrongABI(t *testing.T) {
	for name, word := range map[string]string{"OLD_ABI": "version is 0, wanted 1", "NEW_ABI": "version is 99, wanted 1", "SHORT_TABLE": "table size is 24"} {
		t.Run(name, func(t *testing.T) { newRogue(t, name).refuse(t, "failed", ErrABIMismatch, word) })
	}
}

func TestF10NullInTable(t *testing.T) {
	newRogue(t, "NULL_KERNEL").refuse(t, "failed", ErrProbe, "kernel 0 has no name or no entry")
}

func TestF11ProbeGivesNoResult(t *testing.T) {
	for name, words := range map[string][]string{"CTOR_KILL": {"SIGKILL"}, "CTOR_GARBAGE": {"no result"}, "CTOR_FLOOD": {"more than 65536 bytes"}} {
		t.Run(name, func(t *testing.T) { newRogue(t, name).refuse(t, "failed", ErrProbe, words...) })
	}
	t.Run("CTOR_STDOUT", func(t *testing.T) { // it is heard by nobody
		if _, b := newRogue(t, "CTOR_STDOUT").open(t); b.State != "loaded" {
			t.Errorf("%+v", b)
		}
	})
}

func TestF12CrashInProbe(t *testing.T) {
	for name, word := range map[string]string{"CALL_SEGV": "SIGSEGV", "CALL_FPE": "SIGFPE", "CALL_ABORT": "SIGABRT", "CALL_STACK": "SIGSEGV", "CALL_EXIT": "without a result", "CALL_THROW": "SIGABRT", "CALL_HANG": "did not end in time"} {
		t.Run(name, func(t *testing.T) {
			if name == "CALL_FPE" && runtime.GOARCH != "amd64" {
				t.Skip("a division by zero is no fault on this processor")
			}
			newRogue(t, name).refuse(t, "failed", ErrProbe, word, "testing activations/avx2")
		})
	}
	t.Run("CTOR_THREAD", func(t *testing.T) { newRogue(t, "CTOR_THREAD").refuse(t, "failed", ErrProbe, "SIGSEGV") })
}

// TestF13CrashInUse has another process crash in a call that no probe makes. The next one finds that, and uses all but that op.
func TestF13CrashInUse(t *testing.T) {
	const size = 20_000
	if folder := os.Getenv("SETUN_TEST_ROGUE"); folder != "" { // that other process
		rt := open(t, WithLibraries(folder), WithForce("simd_c"))
		_, err := rt.Quantize(nil, ramp(size), quant.Options{})
		t.Fatalf("the call came back: %v", err)
	}
	r := newRogue(t, "LATER_SEGV")
	if _, b := r.open(t); b.State != "loaded" || len(b.Kernels) != 2 || len(r.entries()) != 0 {
		t.Fatalf("%+v, %+v", b, r.entries())
	}
	c := exec.Command(os.Args[0], "-test.run=^TestF13CrashInUse$")
	c.Env = append(os.Environ(), "SETUN_TEST_ROGUE="+r.folder)
	if out, err := c.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("SIGSEGV")) || bytes.Contains(out, []byte("came back")) {
		t.Fatalf("it should have crashed: %v\n%s", err, out)
	}
	var log bytes.Buffer
	logged := WithLogger(slog.New(slog.NewTextHandler(&log, nil)))
	rt, b := r.open(t, logged)
	list := r.entries()
	if len(list) != 1 || list[0].Op != "quantize" || list[0].Count != 1 || !strings.Contains(list[0].Reason, "quantize/avx2") {
		t.Fatalf("quarantined: %+v", list)
	}
	if b.State != "loaded" || !slices.Equal(b.Kernels, []string{"activations/avx2"}) || !strings.Contains(b.Reason, "quantize is quarantined") || !strings.Contains(b.Reason, "calibrate quarantine lift "+r.digest[:12]) {
		t.Errorf("%+v", b)
	}
	t.Log(b.Reason)
	got, err := rt.Quantize(nil, ramp(size), quant.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := open(t, WithoutNative()).Quantize(nil, ramp(size), quant.Options{})
	if err != nil || !slices.Equal(got.Codes, want.Codes) || !slices.Equal(got.Scales, want.Scales) {
		t.Errorf("not what pure Go answers (%v)", err)
	}
	r.open(t, logged)
	if strings.Contains(log.String(), "to be tried again") { // it is known already, and not tried while it is not used
		t.Errorf("logged: %s", log.String())
	}
	// Whoever lifts that has it tried on the shape that it had, by a process that may crash.
	r.lift(t)
	if _, b := r.open(t); !slices.Equal(b.Kernels, []string{"activations/avx2"}) || !strings.Contains(b.Reason, "tried it once more ended with code 2: SIGSEGV") {
		t.Errorf("after lifting: %+v", b)
	}
}

func TestF14WrongResults(t *testing.T) {
	for name, words := range map[string][]string{
		"WRONG_ULP": {"scale[1] is"}, "WRONG_NAN": {"scale[2] is NaN"}, "WRONG_ZERO": {"code[0] is 0"}, "WRONG_PAST": {"wrote outside its operands"}, "WRONG_INPUT": {"changed input 0"}, "CALL_NTH": {"code 7"},
	} {
		t.Run(name, func(t *testing.T) { newRogue(t, name).withhold(t, words...) })
	}
}

func TestFloatEnvironmentChangedInACall(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the rogue knows how to do that on amd64 alone")
	}
	newRogue(t, "CALL_FENV").withhold(t, "changed the float environment")
	newRogue(t, "CTOR_FENV").refuse(t, "refused", probe.ErrProbe, "float environment")
}

// A machine that has no memory now is no verdict on the library: it is not loaded, and tried again the next time.
func TestNoMemoryIsNoVerdict(t *testing.T) {
	for name, word := range map[string]string{"CALL_NOMEM": "out of memory", "CALL_NEW": "bad_alloc", "CTOR_THREADS": "temporarily unavailable; rogue: giving up; SIGABRT"} {
		t.Run(name, func(t *testing.T) {
			r := newRogue(t, name)
			for range 2 {
				rt, b := r.open(t)
				if b.State != "failed" || !strings.Contains(b.Reason, word) || len(r.entries()) != 0 || strings.Contains(b.Reason, "quarantine") {
					t.Errorf("%+v, %+v", b, r.entries())
				}
				answers(t, rt)
				t.Log(b.Reason)
			}
		})
	}
}

func TestF27ProbeNeverProbes(t *testing.T) {
	if _, b := newRogue(t, "CTOR_SPAWN").open(t); b.State != "loaded" { // it aborts if what it starts gets anywhere
		t.Errorf("%+v", b)
	}
	c := exec.Command(os.Args[0], "-test.run=^$")
	c.Env = append(os.Environ(), probe.ChildVariable+"=1")
	out, err := c.CombinedOutput()
	var failed *exec.ExitError
	if !errors.As(err, &failed) || failed.ExitCode() != 120 || !bytes.Contains(out, []byte(probe.ChildVariable+" is set")) || bytes.Contains(out, []byte("PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// Many at once that find a library make one probe.
func TestOneProbeForManyRuntimes(t *testing.T) {
	r := newRogue(t, "GOOD")
	var all sync.WaitGroup
	sources := make([]string, 8)
	for i := range sources {
		all.Go(func() {
			rt, err := Open(WithProfile(""), WithLibraries(r.folder))
			if err != nil {
				t.Error(err)
				return
			}
			defer rt.Close()
			for _, b := range rt.Report().Backends {
				if b.Probe != nil {
					sources[i] = b.Probe.Source
				}
			}
		})
	}
	all.Wait()
	slices.Sort(sources)
	if sources[0] != "probe" || slices.Contains(sources[1:], "probe") || slices.Contains(sources, "") {
		t.Errorf("%q", sources)
	}
}

// Without a probe there is no library, unless the program accepts that.
func TestNoProbeNoLibrary(t *testing.T) {
	r := newRogue(t, "GOOD")
	helpless := func(path string) *BackendReport {
		t.Helper()
		rt, b := r.open(t, WithProbeHelper(path))
		if b.State != "refused" || !strings.Contains(b.Reason, "no probe could be made") || !strings.Contains(b.Reason, probe.HelperVariable) || len(r.entries()) != 0 {
			t.Errorf("%+v, %+v", b, r.entries())
		}
		answers(t, rt)
		return b
	}
	helpless(filepath.Join(t.TempDir(), "nowhere"))
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	helpless(text)
	if other, err := exec.LookPath("true"); err == nil {
		if b := helpless(other); !strings.Contains(b.Reason, "does not know of probes") {
			t.Error(b.Reason)
		}
	}
	if err := os.Chmod(text, 0o722); err != nil {
		t.Fatal(err)
	}
	if b := helpless(text); !strings.Contains(b.Reason, "can be written by others") {
		t.Error(b.Reason)
	}
	if _, err := Open(WithProbeHelper("calibrate")); !errors.Is(err, ErrArgument) {
		t.Errorf("a relative helper: %v", err)
	}
	if _, err := Open(WithProfile(""), WithLibraries(r.folder), WithStrict(), WithProbeHelper(text)); !errors.Is(err, ErrNoProbe) {
		t.Errorf("strict: %v", err)
	}

	rt, b := r.open(t, WithoutProbe())
	if b.State != "loaded" || b.Probe.Source != "off" || !rt.Report().Quarantine.Unprobed {
		t.Errorf("%+v, %+v", b, rt.Report().Quarantine)
	}
	t.Setenv(probe.Variable, "off")
	if rt, b = r.open(t); b.Probe.Source != "off" || !rt.Report().Quarantine.Unprobed {
		t.Errorf("%+v", b)
	}
	t.Setenv(probe.Variable, "perhaps")
	if _, err := Open(); !errors.Is(err, ErrArgument) || !strings.Contains(err.Error(), probe.Variable) {
		t.Errorf("%v", err)
	}
}

// This test binary, copied, is a program that links this package.
func TestProbeHelper(t *testing.T) {
	r := newRogue(t, "GOOD")
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	helper := filepath.Join(t.TempDir(), "helper")
	if err := os.WriteFile(helper, data, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv(probe.HelperVariable, helper)
	rt, b := r.open(t)
	if b.State != "loaded" || b.Probe.Source != "probe" || rt.Report().Quarantine.Helper != helper {
		t.Errorf("%+v, %+v", b, b.Probe)
	}
	answers(t, rt)
}

// What one process found another one believes, and where nothing can be kept all works as well.
func TestVerdictsAreKept(t *testing.T) {
	r := newRogue(t, "GOOD")
	if folder := os.Getenv("SETUN_TEST_ROGUE"); folder != "" {
		r.folder = folder
		t.Setenv(quarantine.StateVariable, os.Getenv("SETUN_TEST_STATE"))
		if _, b := r.open(t); b.State != "loaded" || b.Probe.Source != "disk" {
			t.Errorf("%+v, %+v", b, b.Probe)
		}
		return
	}
	rt, _ := r.open(t)
	answers(t, rt)
	c := exec.Command(os.Args[0], "-test.run=^TestVerdictsAreKept$")
	c.Env = append(os.Environ(), "SETUN_TEST_ROGUE="+r.folder, "SETUN_TEST_STATE="+r.state)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, state := range []string{"none", "relative", filepath.Join(r.folder, "libsetun_simd_c.so")} {
		t.Setenv(quarantine.StateVariable, state)
		rt, b := r.open(t)
		if b.State != "loaded" || len(rt.Report().Quarantine.Notes) == 0 {
			t.Errorf("%s: %+v, %+v", state, b, rt.Report().Quarantine)
		}
		answers(t, rt)
	}
}

// A broken list is set aside and said, and stops nothing.
func TestBrokenQuarantine(t *testing.T) {
	r := newRogue(t, "GOOD")
	list := filepath.Join(r.state, "quarantine.json")
	if err := os.WriteFile(list, []byte(`{"format": "setun quarantine 1", "entries": [{}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	rt, b := r.open(t)
	if notes := rt.Report().Quarantine.Notes; b.State != "loaded" || len(notes) != 1 || !strings.Contains(notes[0], "set aside as "+list+".broken") {
		t.Errorf("%+v, %q", b, notes)
	}
	answers(t, rt)
}

// A library of others with more kernels than can be told apart is left out; the program goes on.
func TestPluginWithTooManyKernels(t *testing.T) {
	r := newRogue(t, "MANY")
	path := filepath.Join(r.folder, plugin.FileName("simd_c"))
	rt := open(t, WithPlugin(path))
	i := slices.IndexFunc(rt.report.Backends, func(b BackendReport) bool { return b.Path == path })
	if i < 0 || rt.report.Backends[i].State != string(plugin.Failed) || !strings.Contains(rt.report.Backends[i].Reason, "more than 64 kernels of activations") {
		t.Errorf("%+v", rt.report.Backends)
	}
	answers(t, rt)
	if _, err := Open(WithPlugin(path), WithStrict()); !errors.Is(err, ErrLibrary) {
		t.Errorf("in strict mode: %v", err)
	}
}
