// SPDX-License-Identifier: Apache-2.0

//go:build unix

package admit

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/setun-compute/setun/backends"
)

// held is an open file and the folder that it lies in, by whose descriptor everything near it is reached: a path could lead elsewhere the second time.
type held struct {
	file   *os.File
	folder int
	path   string
}

// hold opens a file that must not be a symbolic link. It may be anything else, a pipe too, for which nothing must wait.
func hold(path string) (*held, error) {
	folder, err := retry(func() (int, error) {
		return unix.Open(filepath.Dir(path), folderFlags|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, cannotOpen(&os.PathError{Op: "open", Path: filepath.Dir(path), Err: err})
	}
	o := &held{folder: folder, path: path}
	if o.file, err = o.open(filepath.Base(path)); err != nil {
		o.release()
		return nil, err
	}
	return o, nil
}

// open opens a file of the folder.
func (o *held) open(name string) (*os.File, error) {
	path := filepath.Join(filepath.Dir(o.path), name)
	fd, err := retry(func() (int, error) {
		return unix.Openat(o.folder, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	})
	if err == nil {
		_ = unix.SetNonblock(fd, false) // for regular files it means nothing
		return os.NewFile(uintptr(fd), path), nil
	}
	var link unix.Stat_t
	if err == unix.ELOOP || unix.Fstatat(o.folder, name, &link, unix.AT_SYMLINK_NOFOLLOW) == nil && link.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil, refuse(ErrUnsafe, "%s is a symbolic link, which can be turned to another file: put the file itself there, or name it", path)
	}
	return nil, cannotOpen(&os.PathError{Op: "open", Path: path, Err: err})
}

// beside opens another file of the same folder, nil when there is none, and asks of it what is asked of the library.
func (o *held) beside(name string, p policy) (*os.File, error) {
	f, err := o.open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err != nil {
		err = refuse(backends.ErrLibrary, "%v", err)
	} else {
		var v verdict
		v.look(f.Name(), &st, p, false)
		err = v.error()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// release lets the folder go, not the file.
func (o *held) release() { _ = unix.Close(o.folder) }

// retry goes on when a signal came, as the runtime's own preemption.
func retry(f func() (int, error)) (int, error) {
	for {
		fd, err := f()
		if err != unix.EINTR {
			return fd, err
		}
	}
}
