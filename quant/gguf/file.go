// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"fmt"
	"math"
	"os"

	"github.com/setun-compute/setun/internal/mapped"
)

// File is an open file. Its fields are not to be changed. Reads may run side by side, but none beside Close.
type File struct {
	Version   uint32     // 2 or 3
	Keys      []KeyValue // the metadata, in the file's order
	Alignment int64      // of the tensors' data, bytes
	Tensors   []Info     // in the file's order, which is also that of their data

	path  string
	data  []byte
	unmap func() error
	keys  map[string]int
	names map[string]int
}

// Info describes a tensor.
type Info struct {
	Name   string
	Dims   []int64 // 1 to 4, each at least 1; the first is the row length and runs fastest: the reverse of a NumPy shape
	Type   Type
	Offset int64 // of its data, from the file's begin
	Size   int64 // bytes of its data, without padding
}

// Cols returns the weights of a row.
func (t *Info) Cols() int { return int(t.Dims[0]) }

// Rows returns the number of rows: the product of all dimensions but the first.
func (t *Info) Rows() int {
	rows := 1
	for _, n := range t.Dims[1:] {
		rows *= int(n)
	}
	return rows
}

// rowBytes returns the bytes of a row.
func (t *Info) rowBytes() int {
	block, bytes, _ := t.Type.Size()
	return t.Cols() / block * bytes
}

// Open maps the file at path (on systems without mappings it reads it) and checks its header. Tensor data is checked to be there, and not looked at before it
// is read.
//
// Errors: ErrFormat; ErrUnsupported for versions, byte orders and tensor types whose layout is not known; those of the file system. A file that another
// program cuts short while it is mapped ends the process (SIGBUS), as with every mapping.
func Open(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // a mapping outlives it
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	size := info.Size()
	if size < headBytes {
		e := fail(ErrFormat, size, "the file ends before its counts")
		e.Path = path
		return nil, e
	}
	if size > math.MaxInt {
		return nil, &Error{Path: path, Detail: fmt.Sprintf("%d bytes do not fit the address space", size), Err: ErrUnsupported}
	}
	data, unmap, err := mapped.File(file, int(size))
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	f, err := Parse(data)
	if err != nil {
		if unmap != nil {
			unmap()
		}
		if e, ok := err.(*Error); ok {
			e.Path = path
		}
		return nil, err
	}
	f.path, f.unmap = path, unmap
	return f, nil
}

// Parse reads a file that lies in memory, as Open does. data must not change while the File is in use.
func Parse(data []byte) (*File, error) {
	f, err := parse(data, int64(len(data)))
	if err != nil {
		return nil, err
	}
	f.data = data
	return f, nil
}

// Close ends the mapping. Keys and Tensors stay valid; the data is gone.
func (f *File) Close() error {
	f.data = nil
	if f.unmap == nil {
		return nil
	}
	unmap := f.unmap
	f.unmap = nil
	return unmap()
}

// Key looks a key up.
func (f *File) Key(key string) (KeyValue, bool) {
	i, ok := f.keys[key]
	if !ok {
		return KeyValue{}, false
	}
	return f.Keys[i], true
}

// Find returns the index of the tensor with that name.
func (f *File) Find(name string) (int, bool) {
	i, ok := f.names[name]
	return i, ok
}

// tensor returns what is known of tensor i, and its bytes.
func (f *File) tensor(i int) (*Info, []byte, error) {
	if i < 0 || i >= len(f.Tensors) {
		return nil, nil, fmt.Errorf("%s: tensor %d of %d: %w", f.path, i, len(f.Tensors), ErrRange)
	}
	if f.data == nil {
		return nil, nil, fmt.Errorf("%s: %w", f.path, os.ErrClosed)
	}
	t := &f.Tensors[i]
	return t, f.data[t.Offset:][:t.Size:t.Size], nil
}

// Bytes returns the data of tensor i as it lies in the file: Size bytes, not to be written to, nor used after Close. It is what Writer.WriteBytes takes, for
// tensors that are copied as they are.
func (f *File) Bytes(i int) ([]byte, error) {
	_, data, err := f.tensor(i)
	return data, err
}
