// SPDX-License-Identifier: Apache-2.0

package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/internal/durable/crashtest"
)

const where = "/home/user/state/file"

var (
	older = strings.Repeat("old ", 60)
	newer = strings.Repeat("NEW", 150)
)

func load(f durable.Files) (string, error) {
	b, err := f.ReadFile(where, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

func write(text string) func(durable.Files) error {
	return func(f durable.Files) error { return f.WriteFile(where, []byte(text), 0o644) }
}

// pieces writes with several calls, under a lock, as those do that merge.
func pieces(f durable.Files) error {
	unlock, err := f.Lock(where, time.Second)
	if err != nil {
		return err
	}
	defer unlock()
	return f.Write(where, 0o600, func(w io.Writer) error {
		for part := range bytes.Lines([]byte(strings.Repeat(newer+"\n", 5))) {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return nil
	})
}

func saves() map[string]*crashtest.Save {
	return map[string]*crashtest.Save{
		"first":     {Path: where, New: write(newer), Load: load},
		"longer":    {Path: where, Old: write(older), New: write(newer), Load: load},
		"shorter":   {Path: where, Old: write(newer), New: write("x"), Load: load},
		"in pieces": {Path: where, Old: write(older), New: pieces, Load: load},
	}
}

func TestF22EachOperationFails(t *testing.T) {
	for name, s := range saves() {
		t.Run(name, s.Failures)
	}
}

func TestF23CrashBeforeEachOperation(t *testing.T) {
	for name, s := range saves() {
		t.Run(name, s.Crashes)
	}
}

// A writer that hides that a write has failed does not get a file.
func TestF22HiddenFailure(t *testing.T) {
	disk := crashtest.New()
	if err := write(older)(disk.Files()); err != nil {
		t.Fatal(err)
	}
	disk.Before = func(_ int, o crashtest.Op) error {
		if o.Name == "write" {
			return io.ErrShortWrite
		}
		return nil
	}
	err := disk.Files().Write(where, 0o600, func(w io.Writer) error { w.Write([]byte(newer)); return nil })
	if text, e := load(disk.Files()); !errors.Is(err, io.ErrShortWrite) || e != nil || text != older {
		t.Errorf("%v; %q, %v", err, text, e)
	}
}

// What is set aside is still there when the power fails at any time of it, or of the save that follows.
func TestF23SetAside(t *testing.T) {
	aside := []string{where + ".old", where + ".old.2"} // a crash may leave it under both its names
	s := &crashtest.Save{Path: where, Aside: []string{"file.old", "file.old.2"}, Old: write(older), New: func(f durable.Files) error {
		if text, err := load(f); err != nil {
			return err
		} else if text == older {
			if _, err := f.SetAside(where, aside, false); err != nil {
				return err
			}
		}
		return write(newer)(f)
	}, Load: func(f durable.Files) (string, error) {
		text, err := load(f)
		if err != nil || text == older {
			return text, err
		}
		b, err := f.ReadFile(aside[0], 1<<20) // then the old one must be here
		if string(b) != older {
			return text, fmt.Errorf("the old one is lost: %q, %w", b, err)
		}
		if text == "" { // between the two
			text = older
		}
		return text, nil
	}}
	t.Run("crash", s.Crashes)
	t.Run("failure", s.Failures)
}

// bad ways to save: that the checks find each of them says that they see something.
func TestF23BadSavesAreFound(t *testing.T) {
	temporary := func(s durable.System, steps ...string) error {
		names, _ := s.ReadDir("/")
		for _, name := range names {
			if strings.HasSuffix(name, ".tmp") {
				s.RemoveIdle("/" + name)
			}
		}
		f, err := s.CreateTemp("/", ".file.*.tmp")
		if err != nil {
			return fmt.Errorf("save /file: %w", err)
		}
		for _, step := range steps {
			switch step {
			case "write":
				_, err = f.Write([]byte(newer))
			case "sync":
				err = f.Sync()
			case "try sync twice":
				if err = f.Sync(); err != nil {
					err = f.Sync()
				}
			case "rename":
				err = s.Rename(f.Name(), "/file")
			case "remove":
				if there, _ := s.Exists("/file"); there {
					err = s.Remove("/file")
				}
			case "close":
				err = f.Close()
			case "sync folder":
				err = s.SyncDir("/")
			}
			if err != nil {
				f.Close()
				s.Remove(f.Name())
				return fmt.Errorf("save /file: %w", err)
			}
		}
		return nil
	}
	content := func(f durable.Files) (string, error) {
		b, err := f.ReadFile("/file", 1<<20)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return string(b), err
	}
	for steps, want := range map[string][2]bool{ // whether there is a fault to be found by crashes and by failures
		"write, sync, close, rename, sync folder":           {false, false}, // a good one
		"write, close, rename, sync folder":                 {true, true},
		"write, rename, sync, close, sync folder":           {true, true},
		"write, sync, close, rename":                        {true, true},
		"write, sync, close, remove, rename, sync folder":   {true, true},
		"write, try sync twice, close, rename, sync folder": {false, true},
		"sync, write, close, rename, sync folder":           {true, true},
		"write, sync, rename, sync folder":                  {true, true}, // it stays open
		"write, sync, close, sync folder":                   {true, true}, // it stays under the other name
	} {
		s := &crashtest.Save{Path: "/file", Load: content, Old: func(f durable.Files) error { return f.WriteFile("/file", []byte(older), 0o600) },
			New: func(f durable.Files) error { return temporary(f.System, strings.Split(steps, ", ")...) }}
		crashes, failures := s.Check()
		if (crashes != nil) != want[0] {
			t.Errorf("%s: crashes found: %v", steps, crashes)
		}
		if (failures != nil) != want[1] {
			t.Errorf("%s: failures found: %v", steps, failures)
		}
	}
}
