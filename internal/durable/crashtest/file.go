// SPDX-License-Identifier: Apache-2.0

package crashtest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/setun-compute/setun/internal/durable"
)

// file is an open one.
type file struct {
	fs     *FS
	name   string
	node   *node
	at     int // read so far
	writes bool
	closed bool
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Open opens a file or a folder for reading.
func (s *FS) Open(path string) (durable.File, error) {
	if err := s.begin("open", path); err != nil {
		return nil, err
	}
	n, err := s.find("open", path)
	if err != nil {
		return nil, err
	}
	return &file{fs: s, name: path, node: n}, nil
}

// CreateTemp makes a file, and locks it.
func (s *FS) CreateTemp(dir, pattern string) (durable.File, error) {
	s.temps++
	path := filepath.Join(dir, strings.Replace(pattern, "*", fmt.Sprint(s.temps), 1))
	if err := s.begin("open", path); err != nil {
		return nil, err
	}
	d, name, err := s.above("open", path)
	if err != nil {
		return nil, err
	}
	n := &node{locked: true, blocks: map[int]erasure{}}
	d.set(change{name: name, node: n})
	return &file{fs: s, name: path, node: n, writes: true}, nil
}

func (f *file) Name() string { return f.name }

func (f *file) Read(b []byte) (int, error) {
	if err := f.fs.begin("read", f.name); err != nil {
		return 0, err
	}
	if f.at == len(f.node.live) {
		return 0, io.EOF
	}
	n := copy(b, f.node.live[f.at:])
	f.at += n
	return n, nil
}

// Write appends. One that fails has written half.
func (f *file) Write(b []byte) (int, error) {
	err := f.fs.begin("write", f.name)
	if f.closed || !f.writes {
		return 0, fs.ErrClosed
	}
	n := len(b)
	if err != nil {
		n /= 2
	}
	for i := len(f.node.live) / blockSize; i*blockSize < len(f.node.live)+n; i++ {
		f.node.blocks[i] = dirty
	}
	f.node.live = append(f.node.live, b[:n]...)
	return n, err
}

func (f *file) Chmod(fs.FileMode) error { return f.fs.begin("chmod", f.name) }

// Sync puts the file on the disk, not its name. When it fails no later one does so with what was written before.
func (f *file) Sync() error {
	if err := f.fs.begin("sync", f.name); err != nil {
		for i := range f.node.blocks {
			f.node.blocks[i] = lost
		}
		return err
	}
	n := f.node
	disk := append(n.disk, make([]byte, len(n.live)-len(n.disk))...)
	for i, state := range n.blocks {
		if state == dirty {
			copy(disk[i*blockSize:], n.live[i*blockSize:min(len(n.live), (i+1)*blockSize)])
			delete(n.blocks, i)
		}
	}
	n.disk = disk
	return nil
}

// Close closes the file also when it fails.
func (f *file) Close() error {
	err := f.fs.begin("close", f.name)
	if f.closed {
		return fs.ErrClosed
	}
	if f.closed = true; f.writes {
		f.node.locked = false
	}
	return err
}

func (f *file) Stat() (fs.FileInfo, error) {
	if err := f.fs.begin("stat", f.name); err != nil {
		return nil, err
	}
	return info{filepath.Base(f.name), f.node}, nil
}

// info is what is known of a file. Its time is that of a clock that is wrong.
type info struct {
	name string
	node *node
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return int64(len(i.node.live)) }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.node.folder }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.node.folder {
		return fs.ModeDir | 0o755
	}
	return 0o644
}
