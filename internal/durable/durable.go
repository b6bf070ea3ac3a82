// SPDX-License-Identifier: Apache-2.0

// Package durable writes files that are either whole or not there, also when the machine loses power.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
)

// Files are the files of a system: the zero value those of this machine.
type Files struct {
	System System // nil: of this machine
}

func (f Files) system() System {
	if f.System == nil {
		return machine{}
	}
	return f.System
}

// WriteFile replaces the file at path with data, as Write does.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return Files{}.WriteFile(path, data, perm)
}

// Write replaces the file at path with what f writes: a temporary file in the same folder, written, synced, renamed, and the folder
// synced. The folder is made when it is missing. On an error the old file is as it was; only when the folder cannot be synced the new one is there, and may be lost with the power.
func Write(path string, perm fs.FileMode, f func(io.Writer) error) error {
	return Files{}.Write(path, perm, f)
}

// SyncDir makes renames in a folder durable. Systems that cannot sync a folder do so on their own.
func SyncDir(dir string) error { return machine{}.SyncDir(dir) }

// WriteFile is the function of that name.
func (f Files) WriteFile(path string, data []byte, perm fs.FileMode) error {
	return f.Write(path, perm, func(w io.Writer) error { _, err := w.Write(data); return err })
}

// Write is the function of that name.
func (f Files) Write(path string, perm fs.FileMode, write func(io.Writer) error) error {
	d, err := f.Create(path)
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	defer d.Discard()
	if err = write(d); err == nil {
		err = d.Commit(perm)
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return nil
}

// ErrNotRegular is wrapped by errors of ReadFile about folders, devices, pipes.
var ErrNotRegular = errors.New("not a regular file")

// ReadFile reads a regular file. Of one that is longer than limit it returns limit+1 bytes, and the caller refuses it.
func (f Files) ReadFile(path string, limit int64) ([]byte, error) {
	file, err := f.system().Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: %w", path, ErrNotRegular)
	}
	return io.ReadAll(io.LimitReader(file, limit+1))
}

// SetAside renames a file to the first of the names that is free, and makes that durable: what is saved at its path afterwards does not replace it, whatever happens. Where none is free that is
// an error, or the last one is replaced.
func (f Files) SetAside(path string, names []string, replace bool) (to string, err error) {
	there := true
	for i := 0; there && i < len(names); i++ {
		to = names[i]
		if there, err = f.system().Exists(to); err != nil {
			return "", fmt.Errorf("set %s aside: %w", path, err)
		}
	}
	if there && !replace {
		return "", fmt.Errorf("set %s aside: %d files were already", path, len(names))
	}
	if err := f.system().Rename(path, to); err != nil {
		return "", fmt.Errorf("set %s aside: %w", path, err)
	}
	if err := f.system().SyncDir(filepath.Dir(path)); err != nil {
		f.system().Rename(to, path) // or the next save would take it for durable
		return "", fmt.Errorf("set %s aside: %w", path, err)
	}
	return to, nil
}

// makeFolder makes a folder and those above it, durably.
func (f Files) makeFolder(dir string) error {
	s := f.system()
	if there, err := s.Exists(dir); there || err != nil {
		return err
	}
	above := filepath.Dir(dir)
	if above != dir {
		if err := f.makeFolder(above); err != nil {
			return err
		}
	}
	switch err := s.Mkdir(dir, 0o755); {
	case errors.Is(err, fs.ErrExist):
		return nil // somebody was faster
	case err != nil:
		return err
	}
	if err := s.SyncDir(above); err != nil {
		s.Remove(dir) // or the next save would take it for durable
		return err
	}
	return nil
}

// Temporary files are named like ".base.123.tmp".
const temporary = ".tmp"

// sweep removes temporary files of a path that were left by processes that died, and by saves whose disk failed. It is no part of the save: what cannot be removed stays.
func (f Files) sweep(path string) {
	dir, prefix := filepath.Dir(path), "."+filepath.Base(path)+"."
	names, err := f.system().ReadDir(dir)
	if err != nil {
		return
	}
	for _, name := range names {
		number, ours := strings.CutPrefix(name, prefix)
		number, ended := strings.CutSuffix(number, temporary)
		if ours && ended && number != "" && strings.Trim(number, "0123456789") == "" {
			f.system().RemoveIdle(filepath.Join(dir, name))
		}
	}
}
