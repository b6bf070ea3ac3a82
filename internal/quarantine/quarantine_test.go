// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// library is an identity that is valid.
func library(n int) Library {
	return Library{Digest: fmt.Sprintf("%016x%048x", n, n), File: "libsetun_x.so", Machine: "0123456789abcdef", Contract: "abi 1"}
}

// fresh is a store as another process has it: At would return the same one.
func fresh(folder string) *Store {
	stores.mutex.Lock()
	delete(stores.all, folder)
	stores.mutex.Unlock()
	return At(folder)
}

func TestEntriesOutliveTheProcess(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "not", "yet")
	s := fresh(folder)
	if len(s.List()) != 0 || len(s.Notes()) != 0 {
		t.Errorf("%v, %q", s.List(), s.Notes())
	}
	s.Add(library(1), Load, "it crashed\nin two lines\x00")
	s.Add(library(1), Load, "it crashed again")
	s.Add(library(1), "quantize", "wrong")
	s.Add(library(2), Load, "")
	s = fresh(folder)
	list := s.Find(library(1))
	if len(s.List()) != 3 || len(list) != 2 || list[0].Count != 2 || list[0].Reason != "it crashed again" || list[1].Op != "quantize" {
		t.Errorf("%+v", s.List())
	}
	other := library(1)
	other.Driver = "newer"
	if found := s.Find(other); len(found) != 0 {
		t.Errorf("with another driver: %+v", found)
	}
	if lifted, err := s.Lift("f"); len(lifted) != 0 || err != nil {
		t.Errorf("lifted %v, %v", lifted, err)
	}
	if lifted, err := s.Lift(library(1).Digest); len(lifted) != 2 || err != nil {
		t.Errorf("lifted %v, %v", lifted, err)
	}
	if lifted, err := fresh(folder).Lift("all"); len(lifted) != 1 || err != nil || len(fresh(folder).List()) != 0 {
		t.Errorf("lifted %v, %v", lifted, err)
	}
}

func TestVerdicts(t *testing.T) {
	folder := t.TempDir()
	s := fresh(folder)
	s.Pass(true, Verdict{Library: library(1), Scope: "2 cores", Version: "1", Kernels: 3, Took: time.Millisecond})
	s.Pass(false, Verdict{Library: library(2), Scope: "2 cores"})
	if _, here, found := s.Verdict(library(2), "2 cores"); !here || !found {
		t.Error("a passing verdict is not known here")
	}
	s = fresh(folder)
	for _, c := range []struct {
		l           Library
		scope       string
		here, found bool
	}{{library(1), "2 cores", false, true}, {library(1), "2 cores", true, true}, {library(1), "4 cores", false, false}, {library(2), "2 cores", false, false}} {
		if v, here, found := s.Verdict(c.l, c.scope); found != c.found || found && (here != c.here || v.Kernels != 3 || v.Took != time.Millisecond) {
			t.Errorf("%+v: %+v %v %v", c, v, here, found)
		}
	}
	s.Add(library(1), "dot", "wrong")
	if _, err := s.Lift(library(1).Digest[:60]); err != nil {
		t.Fatal(err)
	}
	if _, _, found := fresh(folder).Verdict(library(1), "2 cores"); found {
		t.Error("a verdict outlived the lifting: the library would not be tried again")
	}
}

// Files that are broken in any way are set aside; what is valid next to it is not believed either.
func TestBrokenFilesAreSetAside(t *testing.T) {
	valid := `{"digest":"` + library(1).Digest + `","file":"a.so","machine":"0123456789abcdef","contract":"c","op":"dot","reason":"r","count":1,"time":"2026-01-02T03:04:05Z"}`
	file := func(entries string) string { return `{"format":"setun quarantine 1","entries":[` + entries + `]}` }
	for name, text := range map[string]string{
		"empty": "", "torn": file(valid)[:100], "no JSON": "hello", "NUL": "\x00\x00", "other format": strings.Replace(file(valid), "quarantine 1", "quarantine 2", 1),
		"digest": file(strings.Replace(valid, "0001", "000G", 1)), "short digest": file(strings.Replace(valid, "0001", "", 1)), "path": file(strings.Replace(valid, "a.so", "../a.so", 1)), "op": file(strings.Replace(valid, `"dot"`, `"rm"`, 1)),
		"no reason": file(strings.Replace(valid, `"r"`, `""`, 1)), "control": file(strings.Replace(valid, `"r"`, `"a\u001b[2J"`, 1)), "count": file(strings.Replace(valid, `:1,"time`, `:-1,"time`, 1)), "count 1e308": file(strings.Replace(valid, `:1,"time`, `:1e308,"time`, 1)),
		"time": file(strings.Replace(valid, "2026", "0000", 1)), "second": file(valid + "," + strings.Replace(valid, `"dot"`, `"rm"`, 1)), "many": file(strings.Repeat(valid+",", maxEntries) + valid), "large": file(valid) + strings.Repeat(" ", maxFile), "deep": strings.Repeat("[", 100_000),
	} {
		folder := t.TempDir()
		path := filepath.Join(folder, "quarantine.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := fresh(folder)
		if list := s.List(); len(list) != 0 {
			t.Errorf("%s: %+v", name, list)
		}
		if notes := s.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "set aside") {
			t.Errorf("%s: %q", name, notes)
		}
		if got, err := os.ReadFile(path + ".broken"); err != nil || string(got) != text {
			t.Errorf("%s: what was broken is lost (%v)", name, err)
		}
		s.Add(library(1), "dot", "r")
		if list := fresh(folder).List(); len(list) != 1 {
			t.Errorf("%s: %+v after a new entry", name, list)
		}
	}
	if _, err := (&table[Entry]{format: "setun quarantine 1", check: (*Entry).check}).decode([]byte(file(valid))); err != nil {
		t.Errorf("the valid one: %v", err)
	}
}

// Every cut of a file is broken or missing, never half a list.
func TestTornAtEveryByte(t *testing.T) {
	folder := t.TempDir()
	s := fresh(folder)
	s.Add(library(1), "dot", "first")
	s.Add(library(2), "dot", "second")
	whole, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if list, err := s.entries.decode(whole[:n]); err == nil && len(list) != 2 {
			t.Errorf("cut at %d: %+v", n, list)
		}
	}
	if list, err := s.entries.decode(whole); err != nil || len(list) != 2 {
		t.Errorf("whole: %+v, %v", list, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format":"setun quarantine 1","entries":[]}`))
	f.Add([]byte(`{"format":"setun quarantine 1","entries":[{"digest":"` + library(1).Digest + `","file":"a.so","machine":"0123456789abcdef","contract":"c","op":"dot","reason":"r","count":1,"time":"2026-01-02T03:04:05Z"}]}`))
	t := &table[Entry]{format: "setun quarantine 1", check: (*Entry).check}
	f.Fuzz(func(test *testing.T, data []byte) {
		list, err := t.decode(data)
		if err != nil {
			if !errors.Is(err, errInvalid) || list != nil {
				test.Errorf("%v, %+v", err, list)
			}
			return
		}
		for i := range list {
			if err := list[i].check(); err != nil {
				test.Error(err)
			}
		}
	})
}

// A list of very many entries, of two or three bytes each, is refused before it takes memory.
func TestF21AMillionEntries(t *testing.T) {
	table := &table[Entry]{format: "setun quarantine 1", check: (*Entry).check}
	for _, element := range []string{"{},", "0,", "[],", `"",`} {
		data := []byte(`{"format":"setun quarantine 1","entries":[` + strings.Repeat(element, (maxFile-100)/len(element)) + strings.TrimSuffix(element, ",") + `]}`)
		var err error
		if n := testing.AllocsPerRun(1, func() { _, err = table.decode(data) }); n > 100 || !errors.Is(err, errInvalid) {
			t.Errorf("%s: %v allocations, %v", element, n, err)
		}
	}
}

func FuzzVerdicts(f *testing.F) {
	valid := `{"digest":"` + library(1).Digest + `","file":"a.so","machine":"0123456789abcdef","contract":"c","scope":"s","version":"1","build":"b","kernels":3,"took_ns":1000}`
	for _, entries := range []string{"", valid, valid + "," + valid, strings.Replace(valid, ":3", ":-3", 1), strings.Replace(valid, "1000", "1e308", 1), "null"} {
		f.Add([]byte(`{"format":"setun probes 1","entries":[` + entries + `]}`))
	}
	t := &table[Verdict]{format: "setun probes 1", check: (*Verdict).check}
	f.Fuzz(func(test *testing.T, data []byte) {
		list, err := t.decode(data)
		if err != nil {
			if !errors.Is(err, errInvalid) || list != nil {
				test.Errorf("%v, %+v", err, list)
			}
			return
		}
		if len(list) > maxEntries {
			test.Errorf("%d entries", len(list))
		}
		for i := range list {
			if err := list[i].check(); err != nil {
				test.Error(err)
			}
		}
	})
}

func TestTheListIsBounded(t *testing.T) {
	s := fresh(t.TempDir())
	if _, err := s.entries.update(func([]Entry) []Entry {
		list := make([]Entry, maxEntries+10)
		for i := range list {
			list[i] = Entry{Library: library(i), Op: Load, Reason: strings.Repeat("r", maxReason), Count: 1, Time: time.Unix(1e9, 0).UTC()}
		}
		return list
	}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.Path())
	list := s.List()
	if err != nil || info.Size() > maxFile || len(list) < 100 || list[len(list)-1].Digest != library(maxEntries+9).Digest {
		t.Errorf("%d entries in %v (%v)", len(list), info, err)
	}
}

// A folder that cannot be used costs what is remembered, and a note; what this process found holds for it.
func TestFoldersThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	folders := map[string]string{"": "", file: "not a folder", filepath.Join(file, "below"): "not a directory"}
	if runtime.GOOS != "windows" {
		open := t.TempDir()
		if err := os.Chmod(open, 0o777); err != nil {
			t.Fatal(err)
		}
		folders[open] = "can be written by others"
	}
	for folder, word := range folders {
		s := fresh(folder)
		s.Sweep()
		s.Add(library(1), "dot", "r")
		s.Pass(true, Verdict{Library: library(1), Scope: "s"})
		u := s.Use(library(1), "dot", "avx2")
		u.End(u.Begin(), true)
		if _, _, found := s.Verdict(library(1), "s"); !found || len(s.Find(library(1))) != 1 || s.Use(library(1), "dot", "avx2") != nil {
			t.Errorf("%s: this process has forgotten", folder)
		}
		if notes := strings.Join(s.Notes(), " "); !strings.Contains(notes, word) {
			t.Errorf("%s: %q", folder, notes)
		}
		if lifted, err := s.Lift("all"); len(lifted) != 1 || err != nil || len(s.List()) != 0 {
			t.Errorf("%s: %v, %v", folder, lifted, err)
		}
	}
}

func entriesOf(found []Entry, _ []Suspect) []Entry { return found }

// A mark counts against a kernel when its process has ended, and not before, nor when the machine went down.
func TestMarksOfTheDead(t *testing.T) {
	folder := t.TempDir()
	living := fresh(folder)
	u := living.Use(library(1), "quantize", "avx2")
	slot, other := u.Begin(), u.Begin()
	if slot == other || slot == noSlot || other == noSlot {
		t.Fatalf("slots %d and %d", slot, other)
	}
	next := fresh(folder)
	if found := entriesOf(next.Sweep()); len(found) != 0 || len(entriesOf(living.Sweep())) != 0 {
		t.Errorf("of a living process: %+v", found)
	}
	u.End(slot, false)
	living.first.file.Close() // which is how the system tells that a process is gone
	found := entriesOf(next.Sweep())
	if len(found) != 1 || found[0].Op != "quantize" || !found[0].same(library(1)) || !strings.Contains(found[0].Reason, "quantize/avx2") || len(next.Find(library(1))) != 1 {
		t.Errorf("%+v", found)
	}
	if again := entriesOf(next.Sweep()); len(again) != 0 {
		t.Errorf("found twice: %+v", again)
	}

	// The same with a mark of another boot, and with one that was torn.
	third := fresh(folder)
	u = third.Use(library(2), "dot", "avx2")
	u.record = []byte(strings.Replace(string(u.record), `"boot":"`, `"boot":"not `, 1))
	u.Begin()
	torn := third.Use(library(3), "dot", "avx2")
	torn.record = torn.record[:100]
	torn.Begin()
	third.first.file.Close()
	found = entriesOf(next.Sweep())
	if runtime.GOOS == "linux" && len(found) != 0 {
		t.Errorf("%+v", found)
	}
	for _, e := range found {
		if e.Digest == library(3).Digest {
			t.Errorf("of a torn mark: %+v", e)
		}
	}
}

// What has been used needs no mark again, in no process.
func TestUsedOnce(t *testing.T) {
	folder := t.TempDir()
	s := fresh(folder)
	for _, kernel := range []string{"avx2", "../../odd name", strings.Repeat("long", 100)} {
		u := s.Use(library(1), "dot", kernel)
		if u == nil {
			t.Fatalf("%q needs no mark", kernel)
		}
		u.End(u.Begin(), false)
		if s.Use(library(1), "dot", kernel) == nil {
			t.Errorf("%q: a call that failed has proved it", kernel)
		}
		u.End(u.Begin(), true)
		if s.Use(library(1), "dot", kernel) != nil || fresh(folder).Use(library(1), "dot", kernel) != nil || u.Begin() != noSlot {
			t.Errorf("%q needs a mark again", kernel)
		}
	}
	if s.Use(library(2), "dot", "avx2") == nil || s.Use(library(1), "norm2", "avx2") == nil {
		t.Error("another library, or another op, has been proved as well")
	}
	outside, err := filepath.Glob(filepath.Join(filepath.Dir(folder), "odd*"))
	if err != nil || len(outside) != 0 {
		t.Errorf("%v, %v", outside, err)
	}
	for i := range maxLibraries + 20 {
		u := s.Use(library(100+i), "dot", "avx2")
		u.End(u.Begin(), true)
	}
	if list, err := os.ReadDir(filepath.Join(folder, "used")); err != nil || len(list) > maxLibraries+1 {
		t.Errorf("%d folders, %v", len(list), err)
	}
}

// Many at once: every count is kept, and no mark of one is another's.
func TestAtOnce(t *testing.T) {
	folder := t.TempDir()
	s := fresh(folder)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 10 {
				s.Add(library(1), Load, "r")
				u := s.Use(library(10*i+j), "dot", "avx2")
				u.End(u.Begin(), true)
			}
		})
	}
	all.Wait()
	if list := fresh(folder).List(); len(list) != 1 || list[0].Count != 80 {
		t.Errorf("%+v", list)
	}
	for i, taken := range s.first.taken {
		if taken {
			t.Errorf("slot %d is still taken", i)
		}
	}
}

func TestFolder(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/somewhere")
	t.Setenv("XDG_CACHE_HOME", "/cache")
	for value, want := range map[string]string{"": "/somewhere/setun", "/a//b/": "/a/b", "none": "", "a/b": ""} {
		t.Setenv(StateVariable, value)
		if runtime.GOOS == "windows" {
			continue // what is absolute is another matter there
		}
		if got, note := Folder(); got != want || (got == "") != (note != "") {
			t.Errorf("%q: %q, %q", value, got, note)
		}
	}
	t.Setenv(StateVariable, "")
	t.Setenv("XDG_STATE_HOME", "not/absolute")
	if got, note := Folder(); runtime.GOOS == "linux" && got != "/cache/setun" {
		t.Errorf("%q, %q", got, note)
	}
}

func TestClean(t *testing.T) {
	for text, want := range map[string]string{"a\nb\t\x00c": "a b c", "ää": "ä", "\xff\xfe": "", " x ": "x", "abc": "abc", "abcd": "abc"} {
		if got := Clean(text, 3); got != want && !(text == "a\nb\t\x00c" && got == "a b") {
			t.Errorf("%q: %q", text, got)
		}
	}
}
