// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// What dead processes left goes, and nothing else.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	file := func(parts ...string) string {
		path := filepath.Join(append([]string{dir}, parts...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file(".work.1", lockName) // of a process that died
	dead := file(".work.1", "deep", "file")
	kept := []string{file(".work.2", "file"), file(".work.x", lockName), file(".other.3", lockName), file(".work.4")}
	one, err := NewFolder(dir, "work")
	if err != nil {
		t.Fatal(err)
	}
	kept = append(kept, file(filepath.Base(one.Path), "file"))
	two, err := NewFolder(dir, "work")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range kept {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(dead); err == nil {
		t.Error("what a dead process left is there")
	}
	one.Remove()
	two.Remove()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 4 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Many begin and end at once, and none takes a living one's folder.
func TestFoldersAtOnce(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				f, err := NewFolder(dir, "work")
				if err != nil {
					t.Error(err)
					return
				}
				path := filepath.Join(f.Path, "file")
				if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(path); err != nil {
					t.Error(err)
				}
				f.Remove()
			}
		})
	}
	all.Wait()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
