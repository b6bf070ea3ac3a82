// SPDX-License-Identifier: Apache-2.0

// Package crashtest has a file system in memory that fails and loses power, and holds what saves files against it. It is for tests only.
package crashtest

import (
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/setun-compute/setun/internal/durable"
)

// FS is a file system in memory, for one goroutine: a durable.System. What was not synced is lost by Crash, or not.
type FS struct {
	// Before is called before each operation, with its number from 1 on. An error is the operation's, which does not take place, but for a write, half of which does, and a close.
	Before func(n int, op Op) error

	Log []Op // all operations

	root  *node
	temps int
}

// Op is an operation.
type Op struct{ Name, Path string }

func (o Op) String() string { return o.Name + " " + o.Path }

var _ durable.System = (*FS)(nil)

// New returns an empty file system.
func New() *FS { return &FS{root: newFolder()} }

// Files are those of the file system.
func (s *FS) Files() durable.Files { return durable.Files{System: s} }

// node is a file or a folder.
type node struct {
	locked bool

	folder  bool
	entries map[string]*node // as programs see them
	saved   map[string]*node // as they are on the disk
	changes []change         // between the two

	live, disk []byte          // of a file: as programs see it, as it is on the disk
	blocks     map[int]erasure // between the two
}

// change is one of an entry: the node that a name has from now on, nil for none. A rename takes another name away.
type change struct {
	name, from string
	node       *node
	lost       bool // a sync has failed: no other one makes it durable
}

// erasure says what may happen to a block that is not on the disk.
type erasure int

const (
	dirty erasure = iota
	lost          // a sync has failed, and the block counts as clean: no other one writes it
)

// blockSize is that of the disk: small, so that small files have some blocks.
const blockSize = 64

func newFolder() *node {
	return &node{folder: true, entries: map[string]*node{}, saved: map[string]*node{}}
}

// begin logs an operation and lets the test fail it, with an error like package os has.
func (s *FS) begin(op, path string) error {
	o := Op{op, path}
	s.Log = append(s.Log, o)
	if s.Before != nil {
		if err := s.Before(len(s.Log), o); err != nil {
			return &fs.PathError{Op: op, Path: path, Err: err}
		}
	}
	return nil
}

func split(path string) []string {
	return strings.FieldsFunc(filepath.ToSlash(filepath.Clean(path)), func(r rune) bool { return r == '/' })
}

// find returns the node at a path.
func (s *FS) find(op, path string) (*node, error) {
	at := s.root
	for _, name := range split(path) {
		if !at.folder {
			return nil, &fs.PathError{Op: op, Path: path, Err: fmt.Errorf("%s: not a directory", name)}
		}
		if at = at.entries[name]; at == nil {
			return nil, &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
		}
	}
	return at, nil
}

// above returns the folder of a path, and its name there.
func (s *FS) above(op, path string) (*node, string, error) {
	dir, err := s.find(op, filepath.Dir(path))
	if err == nil && !dir.folder {
		err = &fs.PathError{Op: op, Path: path, Err: fmt.Errorf("not in a directory")}
	}
	return dir, filepath.Base(path), err
}

func (d *node) set(c change) {
	if c.from != "" {
		delete(d.entries, c.from)
	}
	if d.entries[c.name] = c.node; c.node == nil {
		delete(d.entries, c.name)
	}
	d.changes = append(d.changes, c)
}

// Exists is that of durable.System, as are the methods that follow.
func (s *FS) Exists(path string) (bool, error) {
	if err := s.begin("lstat", path); err != nil {
		return false, err
	}
	n, err := s.find("lstat", path)
	if err != nil && n == nil && !isNotExist(err) {
		return false, err
	}
	return n != nil, nil
}

// Mkdir makes a folder.
func (s *FS) Mkdir(path string, _ fs.FileMode) error {
	if err := s.begin("mkdir", path); err != nil {
		return err
	}
	dir, name, err := s.above("mkdir", path)
	if err != nil {
		return err
	}
	if dir.entries[name] != nil {
		return &fs.PathError{Op: "mkdir", Path: path, Err: fs.ErrExist}
	}
	dir.set(change{name: name, node: newFolder()})
	return nil
}

// ReadDir returns the names in a folder.
func (s *FS) ReadDir(path string) ([]string, error) {
	if err := s.begin("readdirent", path); err != nil {
		return nil, err
	}
	dir, err := s.find("open", path)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(dir.entries)), nil
}

// Remove removes a file or a folder.
func (s *FS) Remove(path string) error {
	if err := s.begin("remove", path); err != nil {
		return err
	}
	return s.remove(path)
}

func (s *FS) remove(path string) error {
	dir, name, err := s.above("remove", path)
	if err != nil {
		return err
	}
	switch n := dir.entries[name]; {
	case n == nil:
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	case n.folder && len(n.entries) > 0:
		return &fs.PathError{Op: "remove", Path: path, Err: fmt.Errorf("directory not empty")}
	}
	dir.set(change{name: name})
	return nil
}

// RemoveIdle removes a file that nobody has open.
func (s *FS) RemoveIdle(path string) error {
	if err := s.begin("remove", path); err != nil {
		return err
	}
	n, err := s.find("open", path)
	if err != nil || n.folder || n.locked {
		return err
	}
	return s.remove(path)
}

// Rename gives a file another name.
func (s *FS) Rename(from, to string) error {
	if err := s.begin("rename", from); err != nil {
		return err
	}
	dir, old, err := s.above("rename", from)
	if err != nil {
		return err
	}
	n := dir.entries[old]
	there := dir.entries[filepath.Base(to)]
	switch {
	case filepath.Dir(from) != filepath.Dir(to):
		return &fs.PathError{Op: "rename", Path: to, Err: fmt.Errorf("to another directory")}
	case n == nil:
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	case there != nil && there.folder != n.folder:
		return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
	}
	dir.set(change{name: filepath.Base(to), from: old, node: n})
	return nil
}

// SyncDir puts the entries of a folder on the disk. When that fails, no later one does so with what was changed before.
func (s *FS) SyncDir(path string) error {
	failed := s.begin("sync", path)
	dir, err := s.find("open", path)
	if err != nil {
		return err
	}
	if failed != nil {
		for i := range dir.changes {
			dir.changes[i].lost = true
		}
		return failed
	}
	var left []change
	for _, c := range dir.changes {
		if c.lost {
			left = append(left, c)
			continue
		}
		apply(dir.saved, c, true)
		left = slices.DeleteFunc(left, func(l change) bool { return l.name == c.name })
	}
	dir.changes = left
	return nil
}

// apply makes a change on the disk. Both names of a rename may be there afterwards: only then is the old one not taken away.
func apply(saved map[string]*node, c change, both bool) {
	if c.from != "" && both {
		delete(saved, c.from)
	}
	if saved[c.name] = c.node; c.node == nil {
		delete(saved, c.name)
	}
}

// Lock locks a file.
func (s *FS) Lock(path string) (unlock func(), busy bool, err error) {
	if err := s.begin("open", path); err != nil {
		return nil, false, err
	}
	dir, name, err := s.above("open", path)
	if err != nil {
		return nil, false, err
	}
	n := dir.entries[name]
	if n == nil {
		n = &node{}
		dir.set(change{name: name, node: n})
	}
	if n.locked {
		return nil, true, &fs.PathError{Op: "lock", Path: path, Err: fmt.Errorf("it has one")}
	}
	n.locked = true
	return func() { n.locked = false }, false, nil
}

// Locked returns the paths in a folder that somebody has locked, or has not closed.
func (s *FS) Locked(path string) (list []string) {
	if dir, err := s.find("open", path); err == nil {
		for name, n := range dir.entries {
			if n.locked {
				list = append(list, name)
			}
		}
	}
	return list
}
