// SPDX-License-Identifier: Apache-2.0

//go:build linux

package runtime

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/setun-compute/setun/internal/machine"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/probe"
	"github.com/setun-compute/setun/internal/quarantine"
)

// rogue is a library of the gallery, alone in a folder, with a state of its own.
type rogue struct {
	folder, state, digest string
}

// newRogue compiles internal/plugin/testdata/rogue with one thing wrong. It keeps all other libraries out of sight.
func newRogue(t *testing.T, name string, args ...string) *rogue {
	t.Helper()
	r := &rogue{folder: t.TempDir(), state: t.TempDir()}
	compiler, language := []string{os.Getenv("CC"), "cc", "gcc", "clang"}, []string{"-std=gnu11"}
	if name == "CALL_THROW" || name == "CALL_NEW" {
		compiler, language = []string{os.Getenv("CXX"), "c++", "g++", "clang++"}, []string{"-x", "c++", "-std=c++17"}
	}
	i := slices.IndexFunc(compiler, func(c string) bool { _, err := exec.LookPath(c); return c != "" && err == nil })
	if i < 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("no compiler, and this is CI")
		}
		t.Skipf("none of the compilers %q: there is no rogue library to be tried", compiler)
	}
	source, err := filepath.Abs("../internal/plugin/testdata/rogue/rogue.c")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.folder, plugin.FileName("simd_c"))
	args = slices.Concat(language, []string{"-shared", "-fPIC", "-O1", "-w", "-pthread", "-I", "../native/include", "-DROGUE=" + name, "-o", file}, args, []string{source, "-lm"})
	if out, err := exec.Command(compiler[i], args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv("XDG_DATA_HOME", t.TempDir()) // no libraries of the user's
	t.Setenv(plugin.PathVariable, "")
	t.Setenv(quarantine.StateVariable, r.state)
	t.Setenv(ForceVariable, "")
	t.Setenv("SETUN_FORCE_ISA", "")
	return r
}

// open opens a runtime that finds the library first, and none of cpp or cuda.
func (r *rogue) open(t *testing.T, options ...Option) (*Runtime, *BackendReport) {
	t.Helper()
	rt := open(t, append([]Option{WithLibraries(r.folder)}, options...)...)
	for i, b := range rt.report.Backends {
		if b.Path == filepath.Join(r.folder, plugin.FileName("simd_c")) {
			r.digest = b.Digest
			return rt, &rt.report.Backends[i]
		}
	}
	t.Fatalf("the library is not in the report: %+v", rt.report.Backends)
	return nil, nil
}

// entries are what is quarantined of the library.
func (r *rogue) entries() (list []quarantine.Entry) {
	return slices.DeleteFunc(quarantine.At(r.state).List(), func(e quarantine.Entry) bool { return e.Digest != r.digest })
}

// lift has calibrate's command do its work.
func (r *rogue) lift(t *testing.T) {
	t.Helper()
	if lifted, err := quarantine.At(r.state).Lift(r.digest[:12]); err != nil || len(lifted) == 0 {
		t.Fatalf("lifted %v, %v", lifted, err)
	}
}

// answers holds a runtime against pure Go.
func answers(t *testing.T, rt *Runtime) {
	t.Helper()
	x := ramp(3 * 1000)
	got, err := rt.QuantizeActivations(nil, x, 1000)
	if err != nil {
		t.Fatal(err)
	}
	want, err := open(t, WithoutNative()).QuantizeActivations(nil, x, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Codes, want.Codes) || !slices.Equal(got.Scales, want.Scales) {
		t.Error("activations are not those of pure Go")
	}
}

// impatient is for libraries that hang. Those that do not are done in milliseconds.
func impatient(c *config) error {
	c.probe.Limit = 2 * time.Second
	return nil
}

// refuse asserts what holds for a library that fails its probe as a whole: the program lives and answers rightly, the error names what happened, the next Open does not try it again, and lifting lets it be tried.
func (r *rogue) refuse(t *testing.T, state string, sentinel error, words ...string) {
	t.Helper()
	rt, b := r.open(t, impatient)
	if b.State != state {
		t.Errorf("state %q, wanted %q", b.State, state)
	}
	for _, w := range append(words, "calibrate quarantine lift "+r.digest[:12]) {
		if !strings.Contains(b.Reason, w) {
			t.Errorf("%q does not say %q", b.Reason, w)
		}
	}
	answers(t, rt)
	t.Log(b.Reason)
	once := r.entries()
	if len(once) != 1 || once[0].Op != quarantine.Load || once[0].Count != 1 {
		t.Fatalf("quarantined: %+v", once)
	}
	rt, b = r.open(t, impatient)
	if b.State != "quarantined" || !strings.Contains(b.Reason, once[0].Reason) || !slices.Equal(r.entries(), once) {
		t.Errorf("the next time: %s %s; %+v", b.State, b.Reason, r.entries())
	}
	answers(t, rt)
	if len(rt.Report().Quarantine.Entries) != 1 {
		t.Errorf("the report has %+v", rt.Report().Quarantine)
	}
	if _, err := Open(WithProfile(""), WithLibraries(r.folder), WithStrict()); !errors.Is(err, ErrStrict) || !errors.Is(err, ErrQuarantined) || !errors.Is(err, ErrLibrary) {
		t.Errorf("strict, quarantined: %v", err)
	}
	r.lift(t)
	if left := r.entries(); len(left) != 0 {
		t.Errorf("left after lifting: %+v", left)
	}
	if _, err := Open(WithProfile(""), WithLibraries(r.folder), WithStrict(), impatient); !errors.Is(err, ErrStrict) || !errors.Is(err, sentinel) || !errors.Is(err, ErrLibrary) {
		t.Errorf("strict, lifted: %v", err)
	}
	if again := r.entries(); len(again) != 1 || again[0].Count != 1 {
		t.Errorf("tried again: %+v", again)
	}
}

// withhold asserts what holds for a library of which an op is wrong: it is loaded, and that op is not used.
func (r *rogue) withhold(t *testing.T, words ...string) {
	t.Helper()
	for turn, source := range []string{"probe", "process"} {
		rt, b := r.open(t, impatient)
		if b.State != "loaded" || len(b.Kernels) != 0 || b.Probe == nil || b.Probe.Source != source || b.Probe.Kernels != 1 {
			t.Errorf("turn %d: %+v, %+v", turn, b, b.Probe)
		}
		for _, w := range append(words, "activations is quarantined", "activations/avx2", "calibrate quarantine lift "+r.digest[:12]) {
			if !strings.Contains(b.Reason, w) {
				t.Errorf("%q does not say %q", b.Reason, w)
			}
		}
		if list := r.entries(); len(list) != 1 || list[0].Op != "activations" || list[0].Count != 1 {
			t.Errorf("turn %d: quarantined %+v", turn, list)
		}
		answers(t, rt)
		t.Log(b.Reason)
	}
	r.lift(t)
	if _, b := r.open(t, impatient); b.Probe == nil || b.Probe.Source != "probe" {
		t.Errorf("not tried again after lifting: %+v", b)
	}
}

// BenchmarkOpen is what a runtime takes that finds all three libraries: with probes, with their verdicts in memory, and without any. Between processes a verdict is read from a file, which is little more than the second.
func BenchmarkOpen(b *testing.B) {
	all := libraries(b)
	for _, c := range []struct {
		name    string
		options []Option
		cold    bool
	}{{"probed", nil, true}, {"known", nil, false}, {"unprobed", []Option{WithoutProbe()}, false}} {
		b.Run(c.name, func(b *testing.B) {
			state := b.TempDir()
			b.Setenv(quarantine.StateVariable, state)
			for b.Loop() {
				if c.cold {
					state += "x"
					b.Setenv(quarantine.StateVariable, state)
				}
				rt, err := Open(append([]Option{WithProfile(""), all}, c.options...)...)
				if err != nil {
					b.Fatal(err)
				}
				rt.Close()
			}
		})
	}
}

// BenchmarkProbe is what a process takes, with its start and its end, that tries one of the libraries.
func BenchmarkProbe(b *testing.B) {
	places := plugin.DefaultPlaces([]string{libraryFolder(b)})
	for _, name := range []string{"simd_c", "cpp"} {
		b.Run(name, func(b *testing.B) {
			m := machine.Detect()
			for b.Loop() {
				g := probe.New(m, probe.Settings{Cores: m.Cores}) // without a folder, and
				g.Store().Lift("all")                             // without what the process remembers
				l, tried := plugin.LoadLibrary(name, plugin.Guarded(places, g))
				if l == nil || tried[0].Pass.Source != "probe" {
					b.Fatalf("%+v", tried)
				}
			}
		})
	}
}
