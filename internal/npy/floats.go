// SPDX-License-Identifier: Apache-2.0

package npy

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"unsafe"

	"github.com/setun-compute/setun/internal/floats"
	"github.com/setun-compute/setun/internal/mapped"
)

// Floats is a file's values as float32.
type Floats struct {
	Header
	Values []float32 // row-major; not to be written to, nor used after Close
	Mapped bool      // Values are the file's own bytes, in the page cache: they take no memory of the process

	unmap func() error
}

// Close gives the memory of Values back.
func (f *Floats) Close() error {
	f.Values = nil
	if f.unmap == nil {
		return nil
	}
	unmap := f.unmap
	f.unmap = nil
	return unmap()
}

// OpenFloats opens a file of little-endian float32, float64 or float16 values in C order. float32 is mapped, not read, where the system and the
// alignment allow it; the rest is converted to float32, rounding to nearest, in memory of its own.
//
// Errors: ErrFormat; ErrUnsupported for other types and orders, and for a finite float64 beyond the range of float32; those of the file system; ctx's error.
// A file that another program cuts short while it is mapped ends the process (SIGBUS), as with every mapping.
func OpenFloats(ctx context.Context, path string) (*Floats, error) {
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
	f, err := openFloats(ctx, file, info.Size())
	if e, ok := err.(*Error); ok {
		e.Path = path
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func openFloats(ctx context.Context, file *os.File, size int64) (*Floats, error) {
	prefix := make([]byte, min(size, int64(maxPrefix)))
	if _, err := io.ReadFull(file, prefix); err != nil {
		return nil, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	h, err := ParseHeader(prefix, size)
	if err != nil {
		return nil, err
	}
	switch {
	case h.Descr[0] == '>':
		return nil, fail(ErrUnsupported, h.at.descr, "descr is %q: big-endian values; convert with a.astype('<f4')", h.Descr)
	case h.Descr != "<f4" && h.Descr != "<f8" && h.Descr != "<f2":
		return nil, fail(ErrUnsupported, h.at.descr, "descr is %q; float32, float64 and float16 are read ('<f4', '<f8', '<f2'); convert with a.astype('<f4')", h.Descr)
	case h.Fortran:
		return nil, fail(ErrUnsupported, h.at.fortran, "the values are in Fortran order; save numpy.ascontiguousarray(a)")
	}
	data, unmap, err := mapped.File(file, int(size))
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", file.Name(), err)
	}
	f := &Floats{Header: *h, unmap: unmap}
	data = data[h.Offset:]
	if h.Descr == "<f4" && alias(f, data) {
		f.Mapped = unmap != nil
		return f, nil
	}
	err = f.convert(ctx, data)
	if unmap != nil {
		unmap()
	}
	f.unmap = nil
	return f, err
}

// alias lets Values be the bytes themselves, if byte order and alignment are the machine's.
func alias(f *Floats, data []byte) bool {
	if f.Count == 0 {
		return true
	}
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 || uintptr(unsafe.Pointer(&data[0]))%unsafe.Alignof(float32(0)) != 0 {
		return false
	}
	f.Values = unsafe.Slice((*float32)(unsafe.Pointer(&data[0])), f.Count)
	return true
}

// convert fills Values from the bytes of any of the three types.
func (f *Floats) convert(ctx context.Context, data []byte) error {
	f.Values = make([]float32, f.Count)
	for i := range f.Values {
		if i&(1<<16-1) == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		switch b := data[i*f.Size:]; f.Size {
		case 2:
			f.Values[i] = floats.Half(binary.LittleEndian.Uint16(b))
		case 4:
			f.Values[i] = math.Float32frombits(binary.LittleEndian.Uint32(b))
		case 8:
			wide := math.Float64frombits(binary.LittleEndian.Uint64(b))
			f.Values[i] = float32(wide)
			if math.IsInf(float64(f.Values[i]), 0) && !math.IsInf(wide, 0) {
				return fail(ErrUnsupported, f.Offset+8*i, "value %d = %v is beyond the range of float32", i, wide)
			}
		}
	}
	return nil
}
