// SPDX-License-Identifier: Apache-2.0

package crashtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/setun-compute/setun/internal/durable"
)

// Save is something that is saved. Its functions are called with file systems in any state that a crash may leave.
type Save struct {
	Path  string
	Old   func(durable.Files) error           // makes what is there before, in a file system that is empty; nil for nothing
	New   func(durable.Files) error           // replaces it
	Load  func(durable.Files) (string, error) // what is there, "" for nothing
	Again func(text string) bool              // whether that is what a later New makes, if need not be what the first one does
	Aside []string                            // other names that may be in its folder, beside that of its lock
}

// Percents are the shares of what was not synced that survive a crash.
var Percents = []int{0, 10, 50, 90, 100}

const seeds = 4

var leftover = regexp.MustCompile(`^\..*\.[0-9]+\.tmp$`)

// Crashes cuts the power before each operation of a save and after the last one. What is there then is wholly the old or the new version, the new one once New
// has returned, and saving works again, without leaving anything behind.
func (s *Save) Crashes(t *testing.T) {
	t.Helper()
	n, err := s.crashes()
	t.Logf("%d states after a crash", n)
	if err != nil {
		t.Error(err)
	}
}

// Failures lets each operation of a save fail, once or together with all that follow it.
func (s *Save) Failures(t *testing.T) {
	t.Helper()
	n, err := s.failures()
	t.Logf("%d saves with a failure", n)
	if err != nil {
		t.Error(err)
	}
}

// before is a disk with the old version.
func (s *Save) before() (disk *FS, old string, err error) {
	disk = New()
	if s.Old != nil {
		if err := s.Old(disk.Files()); err != nil {
			return nil, "", fmt.Errorf("the old version: %w", err)
		}
	}
	disk = disk.Crash(0, rand.New(rand.NewPCG(0, 0))) // what was not durable is none
	if old, err = s.Load(disk.Files()); err == nil && old == "" && s.Old != nil {
		err = errors.New("the old version was lost")
	}
	return disk, old, err
}

// versions are what is there before a save and after it.
func (s *Save) versions() (old, fresh string, ops int, err error) {
	disk, old, err := s.before()
	if err != nil {
		return "", "", 0, err
	}
	disk.Log = nil
	if err := s.New(disk.Files()); err != nil {
		return "", "", 0, fmt.Errorf("without any failure: %w", err)
	}
	ops = len(disk.Log)
	if fresh, err = s.Load(disk.Files()); err == nil && (fresh == "" || fresh == old) {
		err = fmt.Errorf("what was saved reads as %q, what was there before as %q", fresh, old)
	}
	return old, fresh, ops, err
}

func (s *Save) crashes() (states int, err error) {
	old, fresh, ops, err := s.versions()
	if err != nil {
		return 0, err
	}
	disk, _, err := s.before()
	if err != nil {
		return 0, err
	}
	disk.Log = nil
	look := func(n int, op string) error {
		for _, percent := range Percents {
			for seed := range uint64(seeds) {
				states++
				after := disk.Crash(percent, rand.New(rand.NewPCG(seed, uint64(n))))
				if err := s.whole(after, n > ops, old, fresh); err != nil {
					return fmt.Errorf("crash before operation %d (%s), %d %% kept, seed %d: %w", n, op, percent, seed, err)
				}
			}
		}
		return nil
	}
	var found error
	disk.Before = func(n int, op Op) error {
		if found == nil {
			found = look(n, op.String())
		}
		return nil
	}
	if err := s.New(disk.Files()); err != nil {
		return states, err
	}
	if disk.Before = nil; found == nil {
		found = look(ops+1, "none")
	}
	return states, found
}

// whole checks what a crash has left, and that saving goes on.
func (s *Save) whole(disk *FS, done bool, old, fresh string) error {
	text, err := s.Load(disk.Files())
	switch {
	case err != nil:
		return fmt.Errorf("it cannot be read: %w", err)
	case text != fresh && (done || text != old):
		return fmt.Errorf("there is %q, neither %q nor %q (done: %v)", text, old, fresh, done)
	}
	return s.goesOn(disk, fresh)
}

// goesOn saves once more, after which all is as if nothing had been.
func (s *Save) goesOn(disk *FS, fresh string) error {
	disk.Before = nil
	if err := s.New(disk.Files()); err != nil {
		return fmt.Errorf("the next save: %w", err)
	}
	if err := s.tidy(disk, 0); err != nil {
		return fmt.Errorf("the next save: %w", err)
	}
	text, err := s.Load(disk.Crash(0, rand.New(rand.NewPCG(0, 0))).Files())
	if err != nil || text != fresh && (s.Again == nil || !s.Again(text)) {
		return fmt.Errorf("the next save made %q (%v), not %q", text, err, fresh)
	}
	return nil
}

// tidy checks that nobody has a lock and that there are no more temporary files than that, nor any other.
func (s *Save) tidy(disk *FS, most int) error {
	dir := filepath.Dir(s.Path)
	if locked := disk.Locked(dir); len(locked) > 0 {
		return fmt.Errorf("still locked, or open: %q", locked)
	}
	node, err := disk.find("open", dir)
	if err != nil {
		return nil // no folder, no files
	}
	base, count := filepath.Base(s.Path), 0
	for name := range node.entries {
		switch {
		case leftover.MatchString(name):
			count++
		case name != base && name != base+".lock" && !slices.Contains(s.Aside, name):
			return fmt.Errorf("%s was left behind", name)
		}
	}
	if count > most {
		return fmt.Errorf("%d temporary files were left behind", count)
	}
	return nil
}

func (s *Save) failures() (saves int, err error) {
	old, fresh, ops, err := s.versions()
	if err != nil {
		return 0, err
	}
	for n := 1; n <= ops; n++ {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS} {
			for _, on := range []bool{false, true} {
				saves++
				if err := s.failure(n, cause, on, old, fresh); err != nil {
					return saves, fmt.Errorf("operation %d fails with %q (all that follow: %v): %w", n, cause, on, err)
				}
			}
		}
	}
	return saves, nil
}

// failure lets one operation fail, three times in a row so that what piles up is seen.
func (s *Save) failure(n int, cause error, on bool, old, fresh string) error {
	disk, _, err := s.before()
	if err != nil {
		return err
	}
	durably, renamed := "", false
	for range 3 {
		disk.Log, renamed = nil, false
		disk.Before = func(i int, op Op) error {
			if i == n || i > n && on {
				return cause
			}
			renamed = renamed || op.Name == "rename" && leftover.MatchString(filepath.Base(op.Path))
			return nil
		}
		err = s.New(disk.Files())
		disk.Before = nil
		if e := s.tidy(disk, 1); e != nil {
			return fmt.Errorf("(%v) %w", err, e)
		}
		text, e := s.Load(disk.Files())
		switch {
		case e != nil:
			return fmt.Errorf("(%v) it cannot be read: %w", err, e)
		case err == nil && text != fresh && (s.Again == nil || !s.Again(text)):
			return fmt.Errorf("no error, and there is %q, not %q", text, fresh)
		case err != nil && !renamed && text != old && durably == "":
			return fmt.Errorf("(%v) there is %q, not %q", err, text, old)
		}
		if err == nil || renamed {
			durably = text // the next round begins with it
		}
		if err == nil {
			kept, e := s.Load(disk.Crash(0, rand.New(rand.NewPCG(0, 0))).Files())
			if e != nil || kept != text {
				return fmt.Errorf("no error, and a crash leaves %q (%v), not %q", kept, e, text)
			}
		} else if !errors.Is(err, cause) || !strings.Contains(err.Error(), s.Path) || !named(err, disk.Log) {
			return fmt.Errorf("the error %q does not say why, at what file, in which operation", err)
		}
		if durably != "" {
			break
		}
		if on { // such a disk works again after a new start: until then what could be neither synced nor undone, like the making of a folder, counts as durable
			disk = disk.Crash(100, rand.New(rand.NewPCG(0, uint64(n))))
		}
	}
	for seed := range uint64(seeds) {
		after := disk.Crash(Percents[seed%uint64(len(Percents))], rand.New(rand.NewPCG(seed, uint64(n))))
		text, err := s.Load(after.Files())
		if err != nil || text != old && text != fresh && text != durably {
			return fmt.Errorf("after a crash there is %q (%v), neither %q nor %q", text, err, old, fresh)
		}
	}
	return s.goesOn(disk, fresh)
}

// named says whether an error names one of the operations.
func named(err error, log []Op) bool {
	return slices.ContainsFunc(log, func(o Op) bool { return strings.Contains(err.Error(), o.Name+" ") })
}

// Check returns what Crashes and Failures find.
func (s *Save) Check() (crashes, failures error) {
	_, crashes = s.crashes()
	_, failures = s.failures()
	return crashes, failures
}
