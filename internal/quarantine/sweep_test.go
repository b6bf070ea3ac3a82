// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"os"
	"syscall"
	"testing"

	"github.com/setun-compute/setun/internal/durable/crashtest"
)

// What the dead have left is there until what it says is on the disk: at each operation that could be the last one of this process, and when the disk fails.
func TestF23EvidenceStaysUntilItIsWritten(t *testing.T) {
	folder := t.TempDir()
	dead := fresh(folder)
	dead.Use(library(1), "dot", "avx2").Begin()
	files := []string{dead.first.name()}
	dead.first.file.Close() // which is how the system tells that a process is gone
	if memory, err := memoryFolder(); err == nil {
		f, err := os.CreateTemp(memory, dead.callsPrefix())
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f.Name())
		t.Cleanup(func() { os.Remove(f.Name()) })
		if _, err := f.Write(callsFile(t, self().Boot)); err != nil || f.Close() != nil {
			t.Fatal(err)
		}
	} else {
		t.Logf("calls are not noted here: %v", err)
	}
	there := func(name string) bool {
		_, err := os.Stat(name)
		return err == nil
	}
	process := func(disk *crashtest.FS) *Store {
		s := fresh(folder)
		s.entries.files, s.verdicts.files, s.suspects.files = disk.Files(), disk.Files(), disk.Files()
		return s
	}

	// With a disk that fails all of it stays, and the process that found it knows it.
	for range 2 {
		disk := crashtest.New()
		disk.Before = func(int, crashtest.Op) error { return syscall.EIO }
		s := process(disk)
		if found, _ := s.Sweep(); len(found) != 1 || len(s.Find(library(1))) != 1 {
			t.Errorf("%+v, %+v", found, s.List())
		}
		for _, name := range files {
			if !there(name) {
				t.Fatalf("the disk fails, and what said so is lost: %s", name)
			}
		}
	}

	// With one that works each goes after its last operation.
	disk := crashtest.New()
	written := 0
	disk.Before = func(_ int, op crashtest.Op) error {
		if op.Name == "sync" && op.Path == folder { // after a list was renamed
			if written == len(files) || !there(files[written]) {
				t.Errorf("lost before list %d was written", written)
			}
			written++
		}
		return nil
	}
	s := process(disk)
	found, news := s.Sweep()
	if len(found) != 1 || found[0].Op != "dot" || len(news) != len(files)-1 || written != len(files) {
		t.Errorf("%+v, %+v, %d lists were written", found, news, written)
	}
	disk.Before = nil
	for _, name := range files {
		if there(name) {
			t.Errorf("left behind: %s", name)
		}
	}
	if list := process(disk).Find(library(1)); len(list) != 1 || list[0].Count != 1 || len(process(disk).Pending(library(2))) != len(files)-1 {
		t.Errorf("%+v, %+v", list, process(disk).Suspects())
	}
	if found, news := s.Sweep(); len(found)+len(news) != 0 {
		t.Errorf("found once more: %+v, %+v", found, news)
	}
}
