// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/setun-compute/setun/internal/durable/crashtest"
)

// A verdict says what was quarantined when it was made, and ends with the next that is. The list has that once, where it is lost too.
func TestVerdictsKnowWhatIsWrong(t *testing.T) {
	folder := t.TempDir()
	s := fresh(folder)
	s.Pass(true, Verdict{Library: library(1), Scope: "s"})
	s.Pass(true, Verdict{Library: library(2), Scope: "s"})
	s.Add(library(1), "dot", "wrong")
	for name, s := range map[string]*Store{"here": s, "elsewhere": fresh(folder)} {
		if _, _, found := s.Verdict(library(1), "s"); found {
			t.Errorf("%s: it is said to be fit, from before", name)
		}
		if _, _, found := s.Verdict(library(2), "s"); !found {
			t.Errorf("%s: another library's verdict ended", name)
		}
	}
	s.Pass(true, Verdict{Library: library(1), Scope: "s"})
	s.Pass(true, Verdict{Library: library(1), Scope: "other"})
	for range 2 { // with the list, then without it
		for name, s := range map[string]*Store{"here": s, "elsewhere": fresh(folder)} {
			v, _, found := s.Verdict(library(1), "s")
			if !found || len(v.Wrong) != 1 || v.Wrong[0].Op != "dot" || v.Wrong[0].Reason != "wrong" {
				t.Errorf("%s: %+v, %v", name, v, found)
			}
			if list := s.List(); len(list) != 1 || list[0].Op != "dot" || list[0].Count != 1 || !list[0].same(library(1)) {
				t.Errorf("%s: %+v", name, list)
			}
		}
		if _, err := s.entries.update(func([]Entry) []Entry { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	living := fresh(folder)
	living.Verdict(library(1), "s") // which it has read now
	if lifted, err := fresh(folder).Lift(library(1).Digest); err != nil || len(lifted) != 1 || lifted[0].Op != "dot" {
		t.Errorf("lifted %+v, %v", lifted, err)
	}
	if _, _, found := living.Verdict(library(1), "s"); found || len(living.List()) != 0 {
		t.Errorf("what another process lifted: verdict %v, %+v", found, living.List())
	}
}

// Probes of several scopes find the same, which ends none of their verdicts. What one of them finds beyond that ends those that do not say it.
func TestVerdictsOfTwoScopes(t *testing.T) {
	folder := t.TempDir()
	probe := func(scope string, ops ...string) { // in a process of its own
		s := fresh(folder)
		for _, op := range ops {
			s.Add(library(1), op, "wrong")
		}
		s.Pass(true, Verdict{Library: library(1), Scope: scope})
	}
	check := func(when string, wants map[string]bool) {
		t.Helper()
		for scope, want := range wants {
			v, _, found := fresh(folder).Verdict(library(1), scope)
			if found != want || found && len(v.Wrong) != len(fresh(folder).List()) {
				t.Errorf("%s: %s: %v, %+v", when, scope, found, v)
			}
		}
	}
	probe("a", "dot")
	probe("b", "dot")
	check("the same", map[string]bool{"a": true, "b": true})
	probe("c", "dot", "norm2")
	check("more", map[string]bool{"a": false, "b": false, "c": true})
	probe("a", "dot")
	check("less", map[string]bool{"a": true, "b": false, "c": true})
	s := fresh(folder)
	if _, _, found := s.Verdict(library(1), "a"); !found {
		t.Error("no verdict to go on with")
	}
	s.Add(library(1), "dot", "wrong again")
	if _, here, found := s.Verdict(library(1), "a"); !here || !found {
		t.Errorf("where it is in memory: %v, %v", here, found)
	}
}

// Whichever operation of the disk fails once while something is quarantined: the next process finds that, or nobody has said that the library is fit.
func TestF22NoVerdictWithoutQuarantine(t *testing.T) {
	for n, done := 0, false; !done; n++ {
		disk := crashtest.New()
		s := fresh(t.TempDir())
		s.entries, s.verdicts = *entriesOn(disk.Files()), *verdictsOn(disk.Files())
		s.Pass(true, Verdict{Library: library(1), Scope: "s"})
		disk.Log, done = nil, true
		disk.Before = func(i int, _ crashtest.Op) error {
			if i == n {
				done = false
				return syscall.EIO
			}
			return nil
		}
		s.Add(library(1), "dot", "wrong")
		s.Pass(true, Verdict{Library: library(1), Scope: "s"})
		disk.Before = nil
		list, err := entriesOn(disk.Files()).load()
		verdicts, err2 := verdictsOn(disk.Files()).load()
		if err != nil || err2 != nil || len(list) == 0 && len(verdicts) != 0 && len(verdicts[0].Wrong) == 0 {
			t.Errorf("operation %d fails: %+v, %v, %+v, %v", n, list, err, verdicts, err2)
		}
		if v, _, found := s.Verdict(library(1), "s"); found && len(v.Wrong) != 1 || len(s.Find(library(1))) != 1 {
			t.Errorf("operation %d fails, and here: %+v, %v, %+v", n, v, found, s.List())
		}
	}
}

// Every field of what a verdict says is wrong is checked.
func TestWrongIsChecked(t *testing.T) {
	good := Wrong{Op: "dot", Reason: "r", Time: time.Unix(1e9, 0).UTC()}
	for name, change := range map[string]func(w *Wrong){
		"op": func(w *Wrong) { w.Op = "dog" }, "no reason": func(w *Wrong) { w.Reason = "" }, "long": func(w *Wrong) { w.Reason = strings.Repeat("r", maxReason+1) }, "time": func(w *Wrong) { w.Time = time.Time{}.AddDate(-1, 0, 0) },
	} {
		bad := good
		change(&bad)
		v := Verdict{Library: library(1), Scope: "s", Wrong: []Wrong{good, bad}}
		if v.check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if v := (Verdict{Library: library(1), Scope: "s", Wrong: []Wrong{good}}); v.check() != nil {
		t.Error(v.check())
	}
}
