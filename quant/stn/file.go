// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"os"
	"slices"
	"sync"

	"github.com/setun-compute/setun/internal/mapped"
)

// Options says how a file is read. The zero value is what Open does.
type Options struct {
	// NoChecksums leaves out the checksums of codes, scales and values: reading then touches only the pages that it needs. Prefix, header and footer are checked in any case, and so
	// are codes, scales and the
	// structure of blocks: damage gives wrong values or an error, never worse.
	NoChecksums bool

	// MaxBytes is how many bytes of memory one call may ask for, at most; more is ErrLimit. A small file can stand for a large tensor. 0 is 16 GiB.
	MaxBytes int64
}

// File is a file that is open for reading. Its methods may be called by several goroutines at once, but for Close.
type File struct {
	path     string
	data     []byte // all of it
	unmap    func() error
	body     int64 // where the sections end
	pages    *pages
	metadata map[string]string
	tensors  []Info
	byName   map[string]int
	opts     Options
	blocks   []blocks // of tensors that have some, when they were first needed
	mutex    sync.Mutex
	pool     sync.Pool // of *workspace
}

// Open opens a file. It is mapped, not read, where the system allows it; checksums of a part are computed when it is first read.
//
// Errors about contents are *Error. A file that another program cuts short while it is mapped ends the process (SIGBUS), as with every mapping.
func Open(path string) (*File, error) { return OpenWith(path, Options{}) }

// OpenWith is Open with options.
func OpenWith(path string, opts Options) (*File, error) {
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
	if size < prefix+footer || size > math.MaxInt {
		return nil, named(fail(ErrFormat, 0, "a file of %d bytes", size), path)
	}
	data, unmap, err := mapped.File(file, int(size))
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	f, err := parse(data, opts)
	if err != nil {
		if unmap != nil {
			unmap()
		}
		return nil, named(err, path)
	}
	f.path, f.unmap = path, unmap
	return f, nil
}

func named(err error, path string) error {
	if e, ok := err.(*Error); ok {
		e.Path = path
	}
	return err
}

// parse reads prefix, footer and header.
func parse(data []byte, opts Options) (*File, error) {
	size := int64(len(data))
	if size < prefix+footer {
		return nil, fail(ErrFormat, 0, "a file of %d bytes", size)
	}
	foot, footAt := data[size-footer:], size-footer
	switch {
	case string(data[:len(magic)]) != magic:
		return nil, fail(ErrFormat, 0, "it does not begin with the magic string of stn")
	case binary.LittleEndian.Uint32(data[len(magic):]) != version:
		return nil, fail(ErrUnsupported, int64(len(magic)), "format version %d; version %d is known", binary.LittleEndian.Uint32(data[len(magic):]), version)
	case !zero(data[len(magic)+4 : prefix]):
		return nil, fail(ErrFormat, int64(len(magic)+4), "the prefix is not zero after the version")
	case string(foot[footer-len(endMagic):]) != endMagic:
		return nil, fail(ErrFormat, size-int64(len(endMagic)), "it does not end with the magic string of stn: the file is cut off, or was not closed")
	case binary.LittleEndian.Uint32(foot[28:]) != crc32.Checksum(foot[:28], crc32c):
		return nil, fail(ErrChecksum, footAt+28, "the footer is damaged")
	case !zero(foot[32 : footer-len(endMagic)]):
		return nil, fail(ErrFormat, footAt+32, "the footer is not zero where it should be")
	case binary.LittleEndian.Uint32(foot[20:]) != version:
		return nil, fail(ErrFormat, footAt+20, "the footer has another version than the prefix")
	}
	body, length := binary.LittleEndian.Uint64(foot), binary.LittleEndian.Uint64(foot[8:])
	count := binary.LittleEndian.Uint32(foot[16:])
	switch {
	case count > MaxTensors:
		return nil, fail(ErrLimit, footAt+16, "%d tensors; at most %d are allowed", count, MaxTensors)
	case length > headerBase+headerEach*uint64(count):
		return nil, fail(ErrLimit, footAt+8, "a header of %d bytes for %d tensors", length, count)
	case body < prefix || body%alignment != 0 || body > uint64(footAt):
		return nil, fail(ErrFormat, footAt, "the sections are said to end at byte %d", body)
	}
	sums := 4 * ceil(int64(body)-prefix, page)
	if footAt-int64(body) != sums+int64(length) { // neither side overflows: length has a limit, and so has sums by body
		return nil, fail(ErrFormat, footAt, "%d bytes between sections and footer; %d of checksums and %d of header are expected", footAt-int64(body), sums, length)
	}
	tail := data[body:footAt]
	if crc32.Checksum(tail, crc32c) != binary.LittleEndian.Uint32(foot[24:]) {
		return nil, fail(ErrChecksum, int64(body), "the header is damaged")
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = 16 << 30
	}
	f := &File{data: data, body: int64(body), pages: newPages(tail[:sums], int64(body)), opts: opts}
	p := newParser(tail[sums:], int64(body)+sums)
	var err error
	if f.metadata, f.tensors, err = p.header(int(count), int64(body)); err != nil {
		return nil, err
	}
	f.byName = make(map[string]int, len(f.tensors))
	for i := range f.tensors {
		f.byName[f.tensors[i].Name] = i
	}
	f.blocks = make([]blocks, len(f.tensors))
	return f, nil
}

func zero(data []byte) bool {
	for _, b := range data {
		if b != 0 {
			return false
		}
	}
	return true
}

// Close gives the file's memory back. Tensors from Mapped must not be used afterwards; other calls return os.ErrClosed.
func (f *File) Close() error {
	f.data = nil
	if f.unmap == nil {
		return nil
	}
	unmap := f.unmap
	f.unmap = nil
	return unmap()
}

// Metadata returns a copy of the file's metadata.
func (f *File) Metadata() map[string]string { return maps.Clone(f.metadata) }

// Tensors returns what the header says of all tensors, in the file's order.
func (f *File) Tensors() []Info {
	all := slices.Clone(f.tensors)
	for i := range all {
		all[i].Shape = slices.Clone(all[i].Shape)
	}
	return all
}

// Info returns what the header says of one tensor; an error that wraps ErrNotFound where there is none of that name.
func (f *File) Info(name string) (Info, error) {
	i, ok := f.byName[name]
	if !ok {
		return Info{}, fmt.Errorf("%s: %q: %w", f.path, name, ErrNotFound)
	}
	info := f.tensors[i]
	info.Shape = slices.Clone(info.Shape)
	return info, nil
}

// Size returns the file's bytes.
func (f *File) Size() int64 { return int64(len(f.data)) }

// Verify checks all checksums, and that nothing but zeros lies between sections. It reads the whole file, also with NoChecksums.
func (f *File) Verify() error {
	if f.data == nil {
		return os.ErrClosed
	}
	if e := f.pages.check(f.data, Section{prefix, f.body - prefix}); e != nil {
		return f.wrong(nil, e)
	}
	for i := range f.tensors {
		t := &f.tensors[i]
		for _, s := range t.sections() {
			if !zero(f.data[s.end():aligned(s.end())]) {
				return f.wrong(t, fail(ErrFormat, s.end(), "what fills up the section is not zero"))
			}
		}
	}
	return nil
}

// wrong completes an error.
func (f *File) wrong(t *Info, e *Error) error {
	e.Path = f.path
	if t != nil {
		e.Tensor = t.Name
	}
	return e
}

// find returns the tensor of a name and of a kind.
func (f *File) find(name string, quantized bool) (int, *Info, error) {
	if f.data == nil {
		return 0, nil, os.ErrClosed
	}
	i, ok := f.byName[name]
	if !ok {
		return 0, nil, fmt.Errorf("%s: %q: %w", f.path, name, ErrNotFound)
	}
	t := &f.tensors[i]
	if quantized != (t.Kind == Quantized) {
		return 0, nil, fmt.Errorf("%s: tensor %q is %v: %w", f.path, name, t.Kind, ErrArgument)
	}
	return i, t, nil
}

// bytes returns a part of the file, after its checksums.
func (f *File) bytes(s Section) ([]byte, *Error) {
	if !f.opts.NoChecksums {
		if e := f.pages.check(f.data, s); e != nil {
			return nil, e
		}
	}
	return f.data[s.Offset:s.end():s.end()], nil
}

// fits refuses what takes more memory than one call may.
func (f *File) fits(t *Info, n int64) *Error {
	if n > f.opts.MaxBytes || n > math.MaxInt {
		return fail(ErrLimit, t.Codes.Offset, "%d bytes of memory; at most %d are allowed", n, f.opts.MaxBytes)
	}
	return nil
}
