// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/internal/durable/crashtest"
)

const (
	listAt  = "/home/user/.local/state/setun/quarantine.json"
	verdict = "/home/user/.local/state/setun/probes.json"
)

func entriesOn(f durable.Files) *table[Entry] {
	return &table[Entry]{path: listAt, format: "setun quarantine 1", check: (*Entry).check, files: f}
}

func verdictsOn(f durable.Files) *table[Verdict] {
	return &table[Verdict]{path: verdict, format: "setun probes 1", check: (*Verdict).check, files: f}
}

// put adds an entry, as Store.Add does.
func put(f durable.Files, e Entry) error {
	_, err := entriesOn(f).update(func(list []Entry) []Entry { return add(list, e) })
	return err
}

func entry(n int) Entry {
	return Entry{Library: library(n), Op: "dot", Reason: strings.Repeat("wrong ", 30), Count: 1, Time: time.Unix(1e9, 0).UTC()}
}

// text is a list as a string, and an error for what is neither missing nor whole.
func text[E any](t *table[E]) (string, error) {
	list, err := t.load()
	if err != nil || list == nil {
		return "", err
	}
	b, err := json.Marshal(list)
	return string(b), err
}

func quarantineSaves() map[string]*crashtest.Save {
	load := func(f durable.Files) (string, error) { return text(entriesOn(f)) }
	old := func(f durable.Files) error { return put(f, entry(1)) }
	fresh := func(f durable.Files) error { return put(f, entry(2)) }
	has := func(text string) bool { return strings.Contains(text, library(2).Digest) } // counted once more
	pass := func(n int) func(durable.Files) error {
		return func(f durable.Files) error {
			_, err := verdictsOn(f).update(func(list []Verdict) []Verdict {
				return append(list[:min(1, len(list))], Verdict{Library: library(n), Scope: "s"})
			})
			return err
		}
	}
	const damaged = `{"format":"setun quarantine 1","entr`
	return map[string]*crashtest.Save{
		"first":    {Path: listAt, New: fresh, Load: load, Again: has},
		"one more": {Path: listAt, Old: old, New: fresh, Load: load, Again: has},
		"verdict":  {Path: verdict, Old: pass(1), New: pass(2), Load: func(f durable.Files) (string, error) { return text(verdictsOn(f)) }},
		"damaged": {Path: listAt, New: fresh, Again: has, Aside: []string{"quarantine.json.broken", "quarantine.json.broken.2"},
			Old: func(f durable.Files) error { return f.WriteFile(listAt, []byte(damaged), 0o600) },
			Load: func(f durable.Files) (string, error) {
				list, err := text(entriesOn(f))
				if errors.Is(err, errInvalid) {
					if b, err := f.ReadFile(listAt, maxFile); string(b) != damaged {
						return "", fmt.Errorf("%q, %w", b, err)
					}
					return damaged, nil
				}
				if err != nil {
					return "", err
				}
				if b, err := f.ReadFile(listAt+".broken", maxFile); string(b) != damaged { // then it must be here
					return "", fmt.Errorf("what was damaged is lost: %q, %w", b, err)
				}
				if list == "" {
					list = damaged
				}
				return list, nil
			}},
	}
}

func TestF22QuarantineWithAFailingDisk(t *testing.T) {
	for name, s := range quarantineSaves() {
		t.Run(name, s.Failures)
	}
}

func TestF23QuarantineAfterAPowerLoss(t *testing.T) {
	for name, s := range quarantineSaves() {
		t.Run(name, s.Crashes)
	}
}

// A disk that fails costs what other processes would know, not what this one knows; and a file that could not be looked at is not taken for a broken one.
func TestF22QuarantineHoldsInTheProcess(t *testing.T) {
	for n, done := 1, false; !done; n++ {
		disk := crashtest.New()
		s := fresh(t.TempDir())
		s.entries, s.verdicts = *entriesOn(disk.Files()), *verdictsOn(disk.Files())
		if err := put(disk.Files(), entry(1)); err != nil {
			t.Fatal(err)
		}
		disk.Log = nil
		done = true
		disk.Before = func(i int, _ crashtest.Op) error {
			if i < n {
				return nil
			}
			done = false
			return syscall.EIO
		}
		s.Add(library(2), "dot", "it was wrong")
		disk.Before = nil
		notes := strings.Join(s.Notes(), " ")
		if strings.Contains(notes, "broken") || len(s.kept) > 0 && !strings.Contains(notes, "input/output error") || done && notes != "" {
			t.Errorf("operation %d fails: %q", n, notes)
		}
		if list, err := s.entries.load(); err != nil || len(s.kept) == 0 && len(list) != 2 {
			t.Errorf("operation %d fails, and nobody keeps it: %+v, %v", n, list, err)
		}
		if found := s.Find(library(2)); len(found) != 1 || found[0].Count < 1 {
			t.Errorf("operation %d fails: %+v", n, found)
		}
		if found := s.Find(library(1)); len(found) != 1 || found[0].Count != 1 {
			t.Errorf("operation %d fails, and what was there is lost: %+v", n, s.List())
		}
	}
}

// processVariable makes this program a process that quarantines.
const processVariable = "SETUN_TEST_QUARANTINE"

const times = 50

func init() {
	folder := os.Getenv(processVariable)
	if folder == "" {
		return
	}
	io.ReadAll(os.Stdin) // the other one is there too
	s := At(folder)
	for range times {
		for {
			if _, err := s.entries.update(func(list []Entry) []Entry { return add(list, entry(1)) }); err == nil {
				break
			} else if !errors.Is(err, durable.ErrLocked) {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	os.Exit(0)
}

// Two processes count at once; the list is whole at any time, and no count is lost.
func TestF24TwoProcessesQuarantine(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "state")
	done := make(chan error, 2)
	var start []io.Closer
	for range 2 {
		c := exec.CommandContext(t.Context(), self)
		c.Env = append(os.Environ(), processVariable+"="+folder)
		in, err := c.StdinPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		start = append(start, in)
		go func() { done <- c.Wait() }()
	}
	for _, in := range start {
		in.Close()
	}
	s, last := fresh(folder), 0
	for left := 2; left > 0; {
		select {
		case err := <-done:
			if left--; err != nil {
				t.Error(err)
			}
		default:
		}
		time.Sleep(time.Millisecond) // leaves the processors to them
		list, err := s.entries.load()
		if err != nil || len(list) > 1 || len(list) == 0 && last > 0 || len(list) == 1 && list[0].Count < last {
			t.Fatalf("%+v, %v; counted to %d before", list, err, last)
		}
		if len(list) == 1 {
			last = list[0].Count
		}
	}
	if last != 2*times {
		t.Errorf("counted to %d", last)
	}
	unlock, err := durable.Lock(s.Path(), 0)
	if err != nil {
		t.Fatalf("a lock was left: %v", err)
	}
	unlock()
	if files, err := os.ReadDir(folder); err != nil || len(files) != 2 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

// Times are for people. With those of a clock that jumped, in the files and of the files, the same is found, in the order in which it came.
func TestF25ClockJumps(t *testing.T) {
	past, future := time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, order := range [][2]time.Time{{past, future}, {future, past}} {
		folder := t.TempDir()
		s := fresh(folder)
		if _, err := s.entries.update(func([]Entry) []Entry {
			a, b := entry(1), entry(2)
			a.Time, b.Time = order[0], order[1]
			return []Entry{a, b}
		}); err != nil {
			t.Fatal(err)
		}
		s.Pass(true, Verdict{Library: library(4), Scope: "s"})
		for _, name := range []string{"quarantine.json", "probes.json"} {
			if err := os.Chtimes(filepath.Join(folder, name), order[0], order[1]); err != nil {
				t.Fatal(err)
			}
		}
		s = fresh(folder)
		s.Add(library(1), "dot", "again")
		s.Add(library(3), "dot", "new")
		list := fresh(folder).List()
		if len(list) != 3 || list[0].Digest != library(2).Digest || list[1].Digest != library(1).Digest || list[1].Count != 2 || list[2].Digest != library(3).Digest {
			t.Errorf("%+v", list)
		}
		if _, _, found := s.Verdict(library(4), "s"); !found || len(s.Notes()) != 0 {
			t.Errorf("the verdict was found: %v; %q", found, s.Notes())
		}
		// Of many libraries that were used some are forgotten by the times of their folders: that costs a mark, and never more.
		for i := range maxLibraries + 5 {
			u := s.Use(library(100+i), "dot", "avx2")
			u.End(u.Begin(), true)
			if names, err := filepath.Glob(filepath.Join(folder, "used", "*")); err != nil || len(names) == 0 || os.Chtimes(names[0], order[i%2], order[i%2]) != nil {
				t.Fatalf("%v, %v", names, err)
			}
			if s.Use(library(100+i), "dot", "avx2") != nil {
				t.Error("this process has forgotten what it used")
			}
		}
	}
}
