// SPDX-License-Identifier: Apache-2.0

package safetensors

import (
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/setun-compute/setun/internal/floats"
	"github.com/setun-compute/setun/internal/mapped"
)

// File is an open file, or several of them behind an index. Its fields are not to be changed. Reads may run side by side, but none beside Close.
type File struct {
	Tensors  []Info            // in the order of their data; files of an index one after the other, by name
	Metadata map[string]string // the entries of __metadata__; of an index, those of its first file by name; nil without any

	path  string
	files []mapping
	names map[string]int
}

// mapping is the bytes of one file.
type mapping struct {
	data  []byte
	unmap func() error
}

// Open maps the file at path (on systems without mappings it reads it) and checks its header, which includes that each tensor's data is there. Data is not looked at before
// it is read.
//
// Errors: ErrFormat; ErrUnsupported for types whose size is not known; those of the file system. A file that another program cuts short while it is mapped
// ends the process (SIGBUS), as with every mapping.
func Open(path string) (*File, error) {
	m, h, err := openOne(path)
	if err != nil {
		return nil, err
	}
	for i := range h.tensors {
		h.tensors[i].Path = path
	}
	return made(path, h, m), nil
}

// Parse reads a file that lies in memory, as Open does. data must not change while the File is in use.
func Parse(data []byte) (*File, error) {
	h, err := parseHeader(data, int64(len(data)))
	if err != nil {
		return nil, err
	}
	return made("", h, mapping{data: data}), nil
}

func made(path string, h *header, m mapping) *File {
	f := &File{Tensors: h.tensors, Metadata: h.metadata, path: path, files: []mapping{m}, names: make(map[string]int, len(h.tensors))}
	for i := range f.Tensors {
		f.names[f.Tensors[i].Name] = i
	}
	return f
}

func openOne(path string) (m mapping, h *header, err error) {
	file, err := os.Open(path)
	if err != nil {
		return m, nil, err
	}
	defer file.Close() // a mapping outlives it
	info, err := file.Stat()
	if err != nil {
		return m, nil, err
	}
	if !info.Mode().IsRegular() {
		return m, nil, fmt.Errorf("%s: not a regular file", path)
	}
	size := info.Size()
	if size < 8 {
		return m, nil, at(fail(ErrFormat, size, "the file ends before its header's length"), path)
	}
	if size > math.MaxInt {
		return m, nil, at(fail(ErrUnsupported, 0, "%d bytes do not fit the address space", size), path)
	}
	if m.data, m.unmap, err = mapped.File(file, int(size)); err != nil {
		return m, nil, fmt.Errorf("map %s: %w", path, err)
	}
	if h, err = parseHeader(m.data, size); err != nil {
		m.close()
		return m, nil, at(err, path)
	}
	return m, h, nil
}

func (m *mapping) close() error {
	m.data = nil
	if m.unmap == nil {
		return nil
	}
	unmap := m.unmap
	m.unmap = nil
	return unmap()
}

// Close ends the mapping. Tensors and Metadata stay valid; the data is gone.
func (f *File) Close() error {
	var errs []error
	for i := range f.files {
		errs = append(errs, f.files[i].close())
	}
	return errors.Join(errs...)
}

// Find returns the index of the tensor with that name.
func (f *File) Find(name string) (int, bool) {
	i, ok := f.names[name]
	return i, ok
}

// Floats reads a tensor whole, row-major: one value of a scalar, none of a tensor with a dimension 0. dst is used when it is large enough, else memory is allocated.
// F32, F16 and BF16 are read, exactly; other types are ErrUnsupported. Other errors: ErrRange, os.ErrClosed.
func (f *File) Floats(name string, dst []float32) ([]float32, error) {
	t, err := f.tensor(name)
	if err != nil {
		return nil, err
	}
	return f.read(t, 0, t.Count(), dst)
}

// Rows reads n rows of a tensor, from row first on, as Floats does. A row runs along the last dimension; a scalar is one row. Only the pages of the file that hold the rows
// are touched.
func (f *File) Rows(name string, first, n int, dst []float32) ([]float32, error) {
	t, err := f.tensor(name)
	if err != nil {
		return nil, err
	}
	if rows := t.Rows(); first < 0 || n < 0 || first > rows || n > rows-first {
		return nil, fmt.Errorf("%s: tensor %q: %d rows from row %d on; it has %d: %w", t.Path, name, n, first, rows, ErrRange)
	}
	if n == 0 { // of a tensor that has no rows, a row may be of any length
		return f.read(t, 0, 0, dst)
	}
	return f.read(t, first*t.Cols(), n*t.Cols(), dst)
}

func (f *File) tensor(name string) (*Info, error) {
	i, ok := f.names[name]
	if !ok {
		return nil, fmt.Errorf("%s: tensor %q: %w", f.path, name, ErrRange)
	}
	return &f.Tensors[i], nil
}

// read converts n values from value first on, which the tensor has.
func (f *File) read(t *Info, first, n int, dst []float32) ([]float32, error) {
	data := f.files[t.file].data
	if data == nil {
		return nil, fmt.Errorf("%s: %w", t.Path, os.ErrClosed)
	}
	data = data[t.Offset:][:t.Size]
	var convert func([]float32, []byte)
	size := 2
	switch t.Type {
	case "F32":
		convert, size = floats.FromFloat32, 4
	case "F16":
		convert = floats.FromHalf
	case "BF16":
		convert = floats.FromBFloat
	default:
		return nil, at(fail(ErrUnsupported, t.Offset, "its type is %s; F32, F16 and BF16 are read", t.Type).about(t.Name), t.Path)
	}
	if cap(dst) < n {
		dst = make([]float32, n)
	}
	dst = dst[:n]
	convert(dst, data[first*size:][:n*size])
	return dst, nil
}
