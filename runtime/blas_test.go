// SPDX-License-Identifier: Apache-2.0

//go:build linux

package runtime

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/probe"
	"github.com/setun-compute/setun/internal/quarantine"
)

// rogueBLAS is a BLAS of testdata/blas.c, alone in a folder, with a state of its own.
type rogueBLAS struct{ folder, file, state string }

// compile makes a shared library of a C source.
func compile(t *testing.T, file string, args ...string) {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no compiler, and this is CI")
		}
		t.Skip("no cc: there is no BLAS to be tried")
	}
	if out, err := exec.Command(cc, append([]string{"-shared", "-fPIC", "-O1", "-o", file}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func newBLAS(t *testing.T, name string, args ...string) *rogueBLAS {
	t.Helper()
	r := &rogueBLAS{folder: t.TempDir(), state: t.TempDir()}
	r.file = filepath.Join(r.folder, "libopenblas.so.0")
	compile(t, r.file, append([]string{"-DROGUE=" + name, `-DSELF="` + r.file + `"`, "testdata/blas.c"}, args...)...)
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

// manyProcesses skips a test under the race detector, with which each of its processes takes a second to start. TestMissingBLASIsRemembered and TestBLASNeedsAnotherFile go through the same code of this one.
func manyProcesses(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("dozens of processes, which start slowly under the race detector")
	}
}

// A BLAS that gets no threads now is tried again by the next runtime.
func TestBLASGetsNoThreads(t *testing.T) {
	for _, byName := range []bool{false, true} {
		r := newBLAS(t, "CTOR_THREADS")
		for range 2 {
			rt, b := r.open(t, byName)
			if b.State != "failed" || !strings.Contains(b.Reason, "temporarily unavailable") || !strings.Contains(b.Reason, "it is tried again the next time") || len(r.entries()) != 0 {
				t.Errorf("by name %v: %+v, %+v", byName, b, r.entries())
			}
			multiplies(t, rt)
		}
	}
}

// A BLAS that crashes, hangs, ends the process or multiplies wrongly does so in another process, once; the host goes on without it and says why.
func TestF31RogueBLAS(t *testing.T) {
	manyProcesses(t)
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
				// Of one that dies before it can say which file it is nothing is remembered but in this process.
				unknown := byName && strings.HasPrefix(name, "CTOR_")
				remedy := "calibrate quarantine lift "
				if unknown {
					remedy = "until this process ends"
				}
				if _, err := os.Stat(filepath.Join(r.state, "quarantine.json")); unknown != errors.Is(err, fs.ErrNotExist) {
					t.Errorf("by name %v: the list on disk: %v", byName, err)
				}
				for _, w := range append(slices.Clone(words), remedy) {
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
				if _, b = r.open(t, byName, WithoutProbe()); b.State != "quarantined" {
					t.Errorf("without a probe: %+v", b)
				}
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
	manyProcesses(t)
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
		is("process") // it has not
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

// A BLAS that is found while it is being written is used when it is there, whatever its part did: writing does not change the folder.
func TestBLASIsBeingCopied(t *testing.T) {
	manyProcesses(t)
	for _, parts := range []int{0, 1, 8, 16, 31} { // of 32
		t.Run(strconv.Itoa(parts), func(t *testing.T) {
			r := newBLAS(t, "GOOD")
			whole, err := os.ReadFile(r.file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(r.file, whole[:len(whole)*parts/32], 0o600); err != nil {
				t.Fatal(err)
			}
			b := r.found(t)
			t.Logf("%s, %s", b.State, b.Reason)
			if err := os.WriteFile(r.file, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, b := r.open(t, true); b.State != "loaded" {
				t.Errorf("%+v", b)
			}
		})
	}
}

// found opens a runtime with what the loader finds and returns what is reported of the first BLAS.
func (r *rogueBLAS) found(t *testing.T) BackendReport {
	t.Helper()
	t.Setenv("LD_LIBRARY_PATH", r.folder)
	rt := open(t, WithFastNumerics(), WithoutCUDA(), impatient)
	for _, b := range rt.report.Backends {
		if b.Name == "blas" {
			return b
		}
	}
	t.Fatalf("no BLAS was looked for: %+v", rt.report.Backends)
	return BackendReport{}
}

// That something else is missing is not remembered of a BLAS.
func TestBLASNeedsAnotherFile(t *testing.T) {
	other := t.TempDir()
	source := filepath.Join(other, "needed.c")
	if err := os.WriteFile(source, []byte("void needed(void) {}"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, aside := filepath.Join(other, "libneeded.so"), filepath.Join(other, "aside")
	compile(t, file, source)
	r := newBLAS(t, "GOOD", "-DNEEDS", "-L"+other, "-lneeded", "-Wl,-rpath,"+other)
	if err := os.Rename(file, aside); err != nil {
		t.Fatal(err)
	}
	if b := r.found(t); b.State != "missing" || !strings.Contains(b.Reason, "libneeded.so") {
		t.Errorf("%+v", b)
	}
	if err := os.Rename(aside, file); err != nil {
		t.Fatal(err)
	}
	if _, b := r.open(t, true); b.State != "loaded" {
		t.Errorf("%+v", b)
	}
}

// A BLAS in whose place another one is put while it is tried leaves no verdict on that one.
func TestBLASReplacedWhileItIsTried(t *testing.T) {
	for name, byName := range map[string]bool{"path": false, "name": true} {
		t.Run(name, func(t *testing.T) {
			next := newBLAS(t, "CTOR_SEGV")
			r := newBLAS(t, "SWAP")
			if err := os.Rename(next.file, r.file+".next"); err != nil {
				t.Fatal(err)
			}
			if !byName { // what a name leads to is tried once more by its path
				if _, b := r.open(t, byName); b.State != "refused" || !strings.Contains(b.Reason, "since it was tried") || len(r.entries()) != 0 {
					t.Errorf("%+v, %+v", b, r.entries())
				}
			}
			if _, b := r.open(t, byName); b.State != "failed" || !strings.Contains(b.Reason, "SIGSEGV") || len(r.entries()) != 1 {
				t.Errorf("the other one: %+v, %+v", b, r.entries())
			}
		})
	}
}

// A BLAS whose path cannot be told, here for a line break in it, is tried and loaded by its name; the verdict holds for one process.
func TestBLASWithoutAPath(t *testing.T) {
	const variable = "SETUN_TEST_NAMED_BLAS"
	if os.Getenv(variable) != "" {
		for _, source := range []string{"probe", "process"} {
			rt := open(t, WithFastNumerics(), WithoutCUDA())
			i := slices.IndexFunc(rt.report.Backends, func(b BackendReport) bool { return b.Name == "blas" })
			if b := rt.report.Backends[i]; b.State != "loaded" || b.Path != "libopenblas.so.0" || b.Probe.Source != source || b.Probe.Kernels != 1 || len(rt.Report().Quarantine.Entries) != 0 {
				t.Errorf("%+v, %+v", b, b.Probe)
			}
			multiplies(t, rt)
		}
		return
	}
	r := newBLAS(t, "GOOD")
	folder := filepath.Join(r.folder, "a\nb")
	if err := errors.Join(os.Mkdir(folder, 0o700), os.Rename(r.file, filepath.Join(folder, filepath.Base(r.file)))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c := exec.Command(os.Args[0], "-test.run=^TestBLASWithoutAPath$")
		c.Env = append(os.Environ(), variable+"=1", "LD_LIBRARY_PATH="+folder)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
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
	if later != "" { // it was tried again, and whoever lifts that has the last word
		if lifted, err := quarantine.At(r.state).Lift("all"); len(lifted) != 1 || err != nil {
			t.Fatalf("%+v, %v", lifted, err)
		}
		if rt, b = r.open(t, false); b.State != "loaded" || len(r.entries()) != 0 {
			t.Errorf("lifted: %+v, %+v", b, r.entries())
		}
		multiplies(t, rt)
	}
}
