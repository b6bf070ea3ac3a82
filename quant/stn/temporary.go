// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"os"
	"path/filepath"

	"github.com/setun-compute/setun/internal/durable"
)

// temporary is a file that gets its name when it is whole, as those of package durable do, but can be written piece by piece.
type temporary struct {
	file *os.File
	path string                // that it will get
	step func(op string) error // for tests: called before each operation, may fail instead of it
}

func newTemporary(path string) (*temporary, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	return &temporary{file: file, path: path}, nil
}

func (t *temporary) try(op string, f func() error) error {
	if t.step != nil {
		if err := t.step(op); err != nil {
			return err
		}
	}
	return f()
}

// Write appends to the file.
func (t *temporary) Write(data []byte) (n int, err error) {
	err = t.try("write", func() error { n, err = t.file.Write(data); return err })
	return n, err
}

// commit makes what was written durable, under its name. On an error nothing is left.
func (t *temporary) commit() error {
	for _, s := range []struct {
		op string
		f  func() error
	}{
		{"chmod", func() error { return t.file.Chmod(0o644) }},
		{"sync", t.file.Sync},
		{"close", t.file.Close},
		{"rename", func() error { return os.Rename(t.file.Name(), t.path) }},
	} {
		if err := t.try(s.op, s.f); err != nil {
			t.discard()
			return err
		}
	}
	return t.try("sync folder", func() error { return durable.SyncDir(filepath.Dir(t.path)) })
}

// discard removes the file.
func (t *temporary) discard() {
	t.file.Close()
	os.Remove(t.file.Name())
}
