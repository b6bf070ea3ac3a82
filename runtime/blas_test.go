// SPDX-License-Identifier: Apache-2.0

//go:build linux

package runtime

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/probe"
	"github.com/setun-compute/setun/internal/quarantine"
)

// rogueBLAS is a BLAS of testdata/blas.c, alone in a folder, with a state of its own.
type rogueBLAS struct{ folder, file, state string }

func newBLAS(t *testing.T, name string) *rogueBLAS {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no compiler, and this is CI")
		}
		t.Skip("no cc: there is no BLAS to be tried")
	}
	r := &rogueBLAS{folder: t.TempDir(), state: t.TempDir()}
	r.file = filepath.Join(r.folder, "libopenblas.so.0")
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-O1", "-DROGUE="+name, "-o", r.file, "testdata/blas.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv("XDG_DATA_HOME", t.TempDir()) // no libraries of the user's
	t.Setenv(plugin.PathVariable, "")
	t.Setenv(quarantine.StateVariable, r.state)
	t.Setenv("SETUN_BLAS", "")
	t.Setenv("SETUN_FORCE_ISA", "")
	return r
}

// open opens a runtime with the BLAS by its path, or as the loader finds it, and returns what is reported of it.
func (r *rogueBLAS) open(t *testing.T, byName bool, options ...Option) (*Runtime, *BackendReport) {
	t.Helper()
	options = append([]Option{WithFastNumerics(), WithoutCUDA(), impatient}, options...)
	if byName {
		t.Setenv("LD_LIBRARY_PATH", r.folder)
	} else {
		options = append(options, WithBLAS(r.file))
	}
	rt := open(t, options...)
	for i, b := range rt.report.Backends {
		if b.Name == "blas" && (b.Path == r.file || b.Path == filepath.Base(r.file)) {
			return rt, &rt.report.Backends[i]
		}
	}
	t.Fatalf("the BLAS is not in the report: %+v", rt.report.Backends)
	return nil, nil
}

func (r *rogueBLAS) entries() []quarantine.Entry { return quarantine.At(r.state).List() }

// multiplies asks for a product of small integers, which is exact in any order.
func multiplies(t *testing.T, rt *Runtime) {
	t.Helper()
	a, b := []float32{1, 2, 3, 4, 5, 6}, []float32{1, -1, 2, 0, 1, 3}
	c, err := rt.MatMul(nil, a, b, 2, 2, 3, MatMulOptions{Fast: true})
	if err != nil || !slices.Equal(c, []float32{8, 8, 20, 14}) {
		t.Errorf("%v, %v", c, err)
	}
}

// A BLAS that crashes, hangs, ends the process or multiplies wrongly does so in another process, once; the host goes on without it and says why.
func TestF31RogueBLAS(t *testing.T) {
	for name, words := range map[string][]string{
		"CTOR_SEGV": {"SIGSEGV", "loading it"}, "CTOR_HANG": {"did not end in time", "loading it"}, "CTOR_EXIT": {"ended without a result", "loading it"}, "WRONG": {"in its self-test", "value "},
		"CALL_SEGV": {"SIGSEGV", "testing matmul/blas"}, "CALL_HANG": {"did not end in time", "testing matmul/blas"}, "CALL_EXIT": {"ended without a result", "testing matmul/blas"},
	} {
		for _, byName := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				r := newBLAS(t, name)
				rt, b := r.open(t, byName)
				if b.State != "failed" || len(b.Kernels) != 0 {
					t.Errorf("by name %v: %+v", byName, b)
				}
				for _, w := range append(words, "calibrate quarantine lift ") {
					if !strings.Contains(b.Reason, w) {
						t.Errorf("%q does not say %q", b.Reason, w)
					}
				}
				t.Log(b.Reason)
				multiplies(t, rt)
				once := r.entries()
				if len(once) != 1 || once[0].Op != quarantine.Load || once[0].Count != 1 || once[0].File != "libopenblas.so.0" {
					t.Fatalf("quarantined: %+v", once)
				}
				rt, b = r.open(t, byName)
				if b.State != "quarantined" || !strings.Contains(b.Reason, once[0].Reason) || !slices.Equal(r.entries(), once) {
					t.Errorf("the next time: %+v, %+v", b, r.entries())
				}
				multiplies(t, rt)
				if name == "CTOR_SEGV" && !byName {
					if _, err := Open(WithProfile(""), WithFastNumerics(), WithBLAS(r.file), WithStrict()); !errors.Is(err, ErrStrict) || !errors.Is(err, ErrQuarantined) || !errors.Is(err, ErrLibrary) {
						t.Errorf("strict: %v", err)
					}
				}
				// Another file in its place is tried anew.
				good := newBLAS(t, "GOOD")
				if err := os.Rename(good.file, r.file); err != nil {
					t.Fatal(err)
				}
				t.Setenv(quarantine.StateVariable, r.state)
				if rt, b = r.open(t, byName); b.State != "loaded" || b.Probe.Source != "probe" {
					t.Errorf("another one: %+v", b)
				}
				multiplies(t, rt)
			})
		}
	}
}

// A BLAS that passes is loaded, from the file that was tried; the verdict is kept until the file is another one, or the name may lead elsewhere.
func TestBLASIsProbed(t *testing.T) {
	for name, byName := range map[string]bool{"path": false, "name": true} {
		t.Run(name, func(t *testing.T) { probesOnce(t, byName) })
	}
}

func probesOnce(t *testing.T, byName bool) {
	r := newBLAS(t, "GOOD")
	is := func(source string) {
		t.Helper()
		rt, b := r.open(t, byName)
		if b.State != "loaded" || b.Path != r.file || b.Probe == nil || b.Probe.Source != source || b.Probe.Kernels != 1 || len(r.entries()) != 0 {
			t.Errorf("by name %v, not %s: %+v, %+v, %+v", byName, source, b, b.Probe, rt.Report().Quarantine)
		}
		multiplies(t, rt)
	}
	is("probe")
	is("process")
	t.Setenv("OMP_NUM_THREADS", "3")
	is("probe")
	is("process")
	if err := os.Chtimes(r.file, time.Now(), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	is("probe")
	if byName { // which another one may have now
		if err := os.WriteFile(filepath.Join(r.folder, "another"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		is("probe") // to find out
	}
	if rt, b := r.open(t, false, WithoutProbe()); b.State != "loaded" || b.Probe.Source != "off" || !rt.Report().Quarantine.Unprobed {
		t.Errorf("unprobed: %+v", b)
	}
	if _, b := r.open(t, byName, WithProbeHelper("/nowhere")); byName && b.State != "loaded" {
		t.Errorf("by its verdict: %+v", b)
	}
	r.state = t.TempDir()
	t.Setenv(quarantine.StateVariable, r.state)
	if _, b := r.open(t, byName, WithProbeHelper("/nowhere")); b.State != "refused" || !strings.Contains(b.Reason, "no probe could be made") || len(r.entries()) != 0 {
		t.Errorf("no probe: %+v", b)
	}
}

// What lies in the working directory, or in the folder for temporary files, is not loaded, though the loader looks into the working directory for an empty element of its path.
func TestBLASInWorkingDirectory(t *testing.T) {
	r := newBLAS(t, "CTOR_SEGV")
	t.Chdir(r.folder)
	t.Setenv("TMPDIR", r.folder)
	for _, path := range []string{":/nowhere", ".", "/nowhere;;"} {
		t.Setenv("LD_LIBRARY_PATH", path)
		rt := open(t, WithFastNumerics(), WithoutCUDA(), impatient)
		for _, b := range rt.report.Backends {
			if b.Name == "blas" && b.State != "missing" && b.State != "loaded" { // there may be one of the system's
				t.Errorf("%q: %+v", path, b)
			}
		}
	}
}

// That there is none is remembered too, or each Open would start a process for each name; until the loader may find one.
func TestMissingBLASIsRemembered(t *testing.T) {
	r := newBLAS(t, "GOOD")
	aside := filepath.Join(t.TempDir(), "blas")
	if err := os.Rename(r.file, aside); err != nil {
		t.Fatal(err)
	}
	for _, helper := range []Option{impatient, WithProbeHelper("/nowhere")} { // the second time no process is started
		if _, b := r.open(t, true, helper); b.State != "missing" || !strings.Contains(b.Reason, "libopenblas.so.0") {
			t.Skipf("this system has one of its own, or does not say that there is none: %+v", b)
		}
	}
	if err := os.Rename(aside, r.file); err != nil {
		t.Fatal(err)
	}
	if _, b := r.open(t, true); b.State != "loaded" || b.Probe.Source != "probe" {
		t.Errorf("%+v", b)
	}
}

// A BLAS that crashes in its first real call is found by the next process.
func TestF13CrashInBLAS(t *testing.T) {
	const variable = "SETUN_TEST_ROGUE_BLAS"
	if file := os.Getenv(variable); file != "" {
		rt := open(t, WithFastNumerics(), WithBLAS(file), WithForce("blas"))
		if os.Getenv(variable+"_LATER") != "" {
			multiplies(t, rt)
		}
		_, err := rt.MatMul(nil, ramp(1001), ramp(1), 1001, 1, 1, MatMulOptions{Fast: true})
		t.Fatalf("the call came back: %v", err)
	}
	for later, words := range map[string]string{"": "for the first time", "1": "testing matmul/blas on a shape that it had when a process ended"} {
		t.Run("later="+later, func(t *testing.T) { crashInBLAS(t, variable, later, words) })
	}
}

func crashInBLAS(t *testing.T, variable, later, words string) {
	r := newBLAS(t, "LATER_SEGV")
	c := exec.Command(os.Args[0], "-test.run=^TestF13CrashInBLAS$")
	c.Env = append(os.Environ(), variable+"="+r.file, variable+"_LATER="+later)
	if out, err := c.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("SIGSEGV")) || bytes.Contains(out, []byte("came back")) {
		t.Fatalf("it should have crashed: %v\n%s", err, out)
	}
	rt, b := r.open(t, false)
	if list := r.entries(); len(list) != 1 || later == "" && (list[0].Op != "matmul" || b.State != "quarantined") || !strings.Contains(b.Reason, words) || len(b.Kernels) != 0 {
		t.Errorf("%+v, %+v", list, b)
	}
	multiplies(t, rt)
	if _, err := Open(WithProfile(""), WithFastNumerics(), WithBLAS(r.file), WithStrict()); !errors.Is(err, probe.ErrQuarantined) {
		t.Errorf("strict: %v", err)
	}
}
