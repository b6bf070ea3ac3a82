// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// System is what this package needs of a file system. Tests put one in its place that fails and loses power (package crashtest).
type System interface {
	// Exists says whether there is anything at a path, be it a link to nowhere.
	Exists(path string) (bool, error)
	// Mkdir makes one folder.
	Mkdir(dir string, perm fs.FileMode) error
	// ReadDir returns the names in a folder.
	ReadDir(dir string) ([]string, error)
	// Open opens a file for reading. It does not wait for a pipe's other end.
	Open(path string) (File, error)
	// CreateTemp makes a new file, whose name is the pattern with a number for its star. It is locked as long as it is open, which says that somebody works on it.
	CreateTemp(dir, pattern string) (File, error)
	// RemoveIdle removes a file that CreateTemp made, unless somebody works on it.
	RemoveIdle(path string) error
	// Remove removes a file, or an empty folder.
	Remove(path string) error
	// Rename gives a file another name in its folder, which may be that of another file.
	Rename(from, to string) error
	// SyncDir makes the entries of a folder durable.
	SyncDir(dir string) error
	// Lock locks a file, which is made when it is missing. busy: somebody else has the lock.
	Lock(path string) (unlock func(), busy bool, err error)
}

// File is an open file of a System.
type File interface {
	io.Reader
	io.Writer
	Name() string
	Stat() (fs.FileInfo, error)
	Chmod(perm fs.FileMode) error
	Sync() error
	Close() error
}

// machine is the System of this machine.
type machine struct{}

func (machine) Exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (machine) Mkdir(dir string, perm fs.FileMode) error { return os.Mkdir(dir, perm) }

func (machine) ReadDir(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

func (machine) Open(path string) (File, error) {
	return opened(os.OpenFile(path, os.O_RDONLY|noWait, 0))
}

// opened keeps a nil *os.File from becoming a File that is not nil.
func opened(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// CreateTemp makes files until one is locked before RemoveIdle of somebody else, who takes it for a dead one's, has it. Where files cannot be locked RemoveIdle leaves all alone.
func (machine) CreateTemp(dir, pattern string) (File, error) {
	for try := 0; ; try++ {
		f, err := os.CreateTemp(dir, pattern)
		if err != nil {
			return nil, err
		}
		if busy, err := tryLock(f); err != nil && !busy || try == 100 {
			return f, nil
		} else if err == nil {
			ours, err := f.Stat()
			there, e := os.Lstat(f.Name())
			if err == nil && e == nil && os.SameFile(ours, there) {
				return f, nil
			}
		}
		f.Close()
	}
}

func (machine) RemoveIdle(path string) error {
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|noWait, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if busy, err := tryLock(f); busy || err != nil {
		return err
	}
	if closedFirst {
		f.Close()
	}
	return os.Remove(path)
}

func (machine) Remove(path string) error     { return os.Remove(path) }
func (machine) Rename(from, to string) error { return os.Rename(from, to) }

func (machine) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !unsupportedSync(err) {
		return err
	}
	return nil
}

func (machine) Lock(path string) (unlock func(), busy bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	if busy, err = tryLock(f); err != nil {
		f.Close()
		return nil, busy, err
	}
	return func() { f.Close() }, false, nil
}
