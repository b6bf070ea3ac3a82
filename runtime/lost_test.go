// SPDX-License-Identifier: Apache-2.0

//go:build linux

package runtime

import (
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/setun-compute/setun/internal/quarantine"
)

// next has another process open a runtime that must not use the library's wrong kernel, or lift what is quarantined. source is where that one must have it from.
func (r *rogue) next(t *testing.T, source string) {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestNextOfALostQuarantine$")
	c.Env = append(os.Environ(), "SETUN_TEST_ROGUE="+r.folder, "SETUN_TEST_SOURCE="+source)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestNextOfALostQuarantine is that other process.
func TestNextOfALostQuarantine(t *testing.T) {
	r := &rogue{folder: os.Getenv("SETUN_TEST_ROGUE"), state: os.Getenv(quarantine.StateVariable)}
	switch source := os.Getenv("SETUN_TEST_SOURCE"); {
	case source == "" || r.folder == "":
		t.Skip("a part of other tests")
	case source == "lift":
		if lifted, err := quarantine.At(r.state).Lift("all"); err != nil || len(lifted) != 1 || lifted[0].Op != "activations" {
			t.Errorf("lifted %+v, %v", lifted, err)
		}
	default:
		rt, b := r.open(t)
		if b.State != "loaded" || len(b.Kernels) != 0 || b.Probe.Source != source || !strings.Contains(b.Reason, "activations is quarantined") || !strings.Contains(b.Reason, "wrong in its self-test") {
			t.Errorf("wanted from %s: %+v, %+v", source, b, b.Probe)
		}
		if list := rt.Report().Quarantine.Entries; len(list) != 1 || list[0].Op != "activations" || list[0].Count != 1 {
			t.Errorf("the report has %+v", list)
		}
		answers(t, rt)
	}
}

// A kernel that was found wrong is not used by anybody, whatever becomes of the list that says so. To lift it the list is not needed either.
func TestLostQuarantine(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, list string) error{
		"damaged": func(t *testing.T, list string) error {
			text, err := os.ReadFile(list)
			if err != nil {
				return err
			}
			text[0] ^= 0x80
			return os.WriteFile(list, text, 0o600)
		},
		"deleted": func(t *testing.T, list string) error { return os.Remove(list) },
		"too long": func(t *testing.T, list string) error { // and what was first is gone
			if err := os.Remove(list); err != nil {
				return err
			}
			return os.WriteFile(list, []byte(`{"format": "setun quarantine 1", "entries": []}`), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRogue(t, "WRONG_ULP")
			if _, b := r.open(t); b.State != "loaded" || len(b.Kernels) != 0 || b.Probe.Source != "probe" {
				t.Fatalf("%+v, %+v", b, b.Probe)
			}
			r.next(t, "disk")
			if err := lose(t, filepath.Join(r.state, "quarantine.json")); err != nil {
				t.Fatal(err)
			}
			r.next(t, "disk")
			if _, b := r.open(t); len(b.Kernels) != 0 || b.Probe.Source != "process" {
				t.Errorf("the process that found it: %+v, %+v", b, b.Probe)
			}
			r.next(t, "lift")
			r.next(t, "probe")
		})
	}
}

// What could not be quarantined is not said to be fit either: the next process finds it again.
func TestUnwritableQuarantine(t *testing.T) {
	r := newRogue(t, "WRONG_ULP")
	lock := filepath.Join(r.state, "quarantine.json.lock")
	if err := os.Mkdir(lock, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"probe", "process"} {
		rt, b := r.open(t)
		if notes := strings.Join(rt.Report().Quarantine.Notes, " "); len(b.Kernels) != 0 || b.Probe.Source != source || !strings.Contains(notes, "what is quarantined now is forgotten when the process ends") {
			t.Errorf("%+v, %+v, %s", b, b.Probe, notes)
		}
		answers(t, rt)
	}
	r.next(t, "probe")
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	r.next(t, "probe")
	r.next(t, "disk")
	r.next(t, "lift")
	r.next(t, "probe")
}

// A process that lives on tries a library again that another one has lifted.
func TestLiftedByAnotherProcess(t *testing.T) {
	r := newRogue(t, "WRONG_ULP")
	for _, source := range []string{"probe", "probe"} {
		if _, b := r.open(t); len(b.Kernels) != 0 || b.Probe.Source != source {
			t.Errorf("%+v, %+v", b, b.Probe)
		}
		r.next(t, "lift")
	}
}

// Processes with other numbers of cores try a library once each, though all find the same wrong.
func TestWrongForOtherCores(t *testing.T) {
	r := newRogue(t, "WRONG_ULP")
	cores := goruntime.GOMAXPROCS(0)
	defer goruntime.GOMAXPROCS(cores)
	for _, source := range []string{"probe", "process", "process"} {
		for n := range 2 {
			goruntime.GOMAXPROCS(cores + n)
			if _, b := r.open(t); b.State != "loaded" || len(b.Kernels) != 0 || b.Probe.Source != source {
				t.Errorf("%d more cores, wanted from %s: %+v, %+v", n, source, b, b.Probe)
			}
		}
	}
	if list := r.entries(); len(list) != 1 || list[0].Count != 2 {
		t.Errorf("%+v", list)
	}
}

// Of many at once that find a library none uses what the one that tries it finds wrong.
func TestWrongForManyRuntimes(t *testing.T) {
	r := newRogue(t, "WRONG_ULP")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			rt, err := Open(WithProfile(""), WithLibraries(r.folder))
			if err != nil {
				t.Error(err)
				return
			}
			defer rt.Close()
			of := func(b BackendReport) bool { return filepath.Dir(b.Path) == r.folder }
			if i := slices.IndexFunc(rt.report.Backends, of); i < 0 {
				t.Errorf("the library is not in the report: %+v", rt.report.Backends)
			} else if b := rt.report.Backends[i]; b.State != "loaded" || len(b.Kernels) != 0 || !strings.Contains(b.Reason, "activations is quarantined") {
				t.Errorf("%+v, %+v", b, b.Probe)
			}
		})
	}
	all.Wait()
}
