// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/setun-compute/setun/backends"
)

// maxSize bounds a library's file size.
const maxSize = 256 << 20

// Digest is the SHA-256 of a file's content.
type Digest [sha256.Size]byte

// String returns the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// File is a library that was admitted, held open so that it stays the one that was checked.
type File struct {
	File     *os.File
	Path     string
	Digest   Digest // zero of a library of another project
	Manifest bool   // the folder has a manifest, and the digest is in it

	info os.FileInfo // when it was read
	load string      // what leads the loader to the descriptor; empty: the path has to do
}

// Open opens and checks one of Setun's libraries by its absolute path. The errors wrap fs.ErrNotExist when there is no such file, ErrUnsafe, ErrDigest, ErrDamaged, and always
// backends.ErrLibrary. Close it when it has been loaded.
func Open(path string) (*File, error) { return open(path, ours()) }

// OpenForeign opens and checks a library of another project, such as a BLAS, that the user has named. Symbolic links are followed, and it may be anybody's who lets nobody but his group write it: what
// administrators install has links and owners of many kinds. There is no digest. It is loaded by its path, because such libraries look for others beside them.
func OpenForeign(path string) (*File, error) {
	if !filepath.IsAbs(path) {
		return nil, errRelative
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, cannotOpen(err)
	}
	return open(real, theirs())
}

var errRelative = refuse(backends.ErrLibrary, "the path is not absolute")

func open(path string, p policy) (*File, error) {
	if !filepath.IsAbs(path) {
		return nil, errRelative
	}
	path = filepath.Clean(path)
	o, err := hold(path)
	if err != nil {
		return nil, err
	}
	defer o.release()
	f := &File{File: o.file, Path: path}
	if err := f.check(o, p); err != nil {
		f.File.Close()
		return nil, err
	}
	return f, nil
}

// check goes from the cheap to the dear, and looks into the file only once it is known whose it is.
func (f *File) check(o *held, p policy) (err error) {
	if f.info, err = f.File.Stat(); err != nil {
		return refuse(backends.ErrLibrary, "%v", err)
	}
	size := f.info.Size()
	switch {
	case !f.info.Mode().IsRegular():
		return refuse(backends.ErrLibrary, "%s is not a regular file", f.Path)
	case size == 0:
		return refuse(ErrDamaged, "%s is empty, not a shared library", f.Path)
	case size > maxSize:
		return refuse(backends.ErrLibrary, "%s has %d bytes, more than the limit of %d", f.Path, size, maxSize)
	}
	if err := o.vet(p); err != nil {
		return err
	}
	if p.digest {
		if f.Digest, err = digest(f.File, size); err != nil {
			return err
		}
		if f.Manifest, err = o.listed(f.Digest, p); err != nil {
			return err
		}
		f.load = loadPath(f.File, f.info, f.Digest)
	}
	if err := checkFormat(f.File, size, p.owners); err != nil {
		return fmt.Errorf("%w: %s", err, f.Path)
	}
	return nil
}

// digest reads the whole file.
func digest(f *os.File, size int64) (d Digest, err error) {
	h := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.NewSectionReader(f, 0, size)}, make([]byte, 256<<10))
	switch {
	case err != nil:
		return d, refuse(backends.ErrLibrary, "read: %v", err)
	case n != size:
		return d, refuse(ErrDamaged, "%s had %d bytes and has %d: it is being written", f.Name(), size, n)
	}
	h.Sum(d[:0])
	return d, nil
}

// LoadPath returns what to give to the system's loader: on Linux a path to the descriptor, of a spelling that is the content's own, else the path of the file.
func (f *File) LoadPath() string {
	if f.load != "" {
		return f.load
	}
	return f.Path
}

// ByPath says that the loader finds the file by its path, because there is no way to hand it the descriptor. Unchanged must be asked before and after.
func (f *File) ByPath() bool { return f.load == "" }

// Unchanged fails with ErrUnsafe when the file was written since it was checked, or when it is to be loaded by its path and that leads to another file.
func (f *File) Unchanged() error {
	now, err := f.File.Stat()
	if err != nil {
		return refuse(backends.ErrLibrary, "%v", err)
	}
	if now.Size() != f.info.Size() || !now.ModTime().Equal(f.info.ModTime()) {
		return refuse(ErrUnsafe, "%s was written while it was being loaded", f.Path)
	}
	if !f.ByPath() {
		return nil
	}
	there, err := os.Lstat(f.Path)
	if err != nil || !os.SameFile(there, f.info) {
		return refuse(ErrUnsafe, "%s was replaced while it was being loaded", f.Path)
	}
	return nil
}

// Close lets the file go. What was loaded from it stays.
func (f *File) Close() error { return f.File.Close() }

// cannotOpen is the error for a file that is not there or not to be opened.
func cannotOpen(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: no such file: %w", backends.ErrLibrary, err)
	}
	return fmt.Errorf("%w: %w", backends.ErrLibrary, err)
}
