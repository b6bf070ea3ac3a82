// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Folder is a hidden folder for files that are looked at before they take their place. It is locked as long as its process works on it, and the next one of its name in the same folder removes those whose process is gone.
type Folder struct {
	Path string
	lock *os.File // nil where files cannot be locked: nobody removes the folders of others there
}

// lockName is the file in a Folder that is locked. It is not to be taken for one of the caller's.
const lockName = ".lock"

// NewFolder makes a folder ".name.123" in dir, which is there, for this user alone. It must be ended by Remove.
func NewFolder(dir, name string) (*Folder, error) {
	prefix := "." + name + "."
	sweepFolders(dir, prefix)
	for {
		path, err := os.MkdirTemp(dir, prefix+"*")
		if err != nil {
			return nil, err
		}
		lock, busy, err := lockFolder(path, os.O_RDWR|os.O_CREATE)
		if err == nil {
			return &Folder{path, lock}, nil
		}
		if !busy && !errors.Is(err, os.ErrNotExist) { // else somebody has taken it for a dead one's
			return &Folder{path, nil}, nil
		}
	}
}

// Remove removes the folder and all that is in it.
func (f *Folder) Remove() {
	if closedFirst {
		f.lock.Close()
	}
	os.RemoveAll(f.Path)
	f.lock.Close()
}

// lockFolder locks what is at the path, and not what somebody has removed meanwhile.
func lockFolder(path string, flags int) (lock *os.File, busy bool, err error) {
	name := filepath.Join(path, lockName)
	if lock, err = os.OpenFile(name, flags, 0o600); err != nil {
		return nil, false, err
	}
	if busy, err = tryLock(lock); err == nil {
		var open, there os.FileInfo
		if open, err = lock.Stat(); err == nil {
			if there, err = os.Stat(name); err == nil && os.SameFile(open, there) {
				return lock, false, nil
			}
		}
		if err == nil {
			err = os.ErrNotExist
		}
	}
	lock.Close()
	return nil, busy, err
}

// sweepFolders removes what processes left that died. It is no part of the work: what cannot be removed stays, and so does a folder without the file that would be locked.
func sweepFolders(dir, prefix string) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, n := range names {
		number, ours := strings.CutPrefix(n.Name(), prefix)
		if !ours || !n.IsDir() || number == "" || strings.Trim(number, "0123456789") != "" {
			continue
		}
		if lock, _, err := lockFolder(filepath.Join(dir, n.Name()), os.O_RDWR); err == nil {
			(&Folder{filepath.Join(dir, n.Name()), lock}).Remove()
		}
	}
}
