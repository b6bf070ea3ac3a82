// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	magic            = "GGUF"
	alignmentKey     = "general.alignment"
	defaultAlignment = 32

	headBytes = 4 + 4 + 8 + 8 // magic, version, counts

	// The least that a key and a tensor take: what bounds their counts by the bytes that are there.
	minKeyBytes    = 8 + 1 + 4 + 1
	minTensorBytes = 8 + 1 + 4 + 8 + 4 + 8
)

// cursor walks through the header. What it returns was there.
type cursor struct {
	data []byte
	at   int
}

// take returns the next n bytes.
func (c *cursor) take(n int, what string) ([]byte, *Error) {
	if n > len(c.data)-c.at {
		return nil, fail(ErrFormat, c.at, "%s takes %d bytes, the file ends after %d", what, n, len(c.data)-c.at)
	}
	b := c.data[c.at:][:n:n]
	c.at += n
	return b, nil
}

func (c *cursor) uint32(what string) (uint32, *Error) {
	b, err := c.take(4, what)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (c *cursor) uint64(what string) (uint64, *Error) {
	b, err := c.take(8, what)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// text reads a string of at most limit bytes; the result lies in the file's bytes.
func (c *cursor) text(what string, limit int) ([]byte, *Error) {
	at := c.at
	n, err := c.uint64("the length of " + what)
	switch {
	case err != nil:
		return nil, err
	case n > uint64(len(c.data)-c.at):
		return nil, fail(ErrFormat, at, "%s has %d bytes, the file ends after %d", what, n, len(c.data)-c.at)
	case n > uint64(limit):
		return nil, fail(ErrFormat, at, "%s has %d bytes; at most %d are read", what, n, limit)
	}
	return c.take(int(n), what)
}

// name reads a string that names something: not empty, UTF-8, no zero byte, at which ggml would end it.
func (c *cursor) name(what string, limit int) (string, *Error) {
	at := c.at
	b, err := c.text(what, limit)
	if err != nil {
		return "", err
	}
	s := string(b)
	switch {
	case s == "":
		return "", fail(ErrFormat, at, "%s is empty", what)
	case !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0:
		return "", fail(ErrFormat, at+8, "%s is %q, which is not text", what, s)
	}
	return s, nil
}

// parse reads the header of a file of size bytes that begins with data. It looks at nothing behind the header.
func parse(data []byte, size int64) (*File, error) {
	c := &cursor{data: data}
	f := &File{Alignment: defaultAlignment}
	tensors, keys, err := c.head(f)
	if err != nil {
		return nil, err
	}
	if err := c.keys(f, keys); err != nil {
		return nil, err
	}
	if err := c.tensors(f, tensors, size); err != nil {
		return nil, err
	}
	return f, nil
}

// head reads version and counts. The counts are bounded before anything is made for them.
func (c *cursor) head(f *File) (tensors, keys int, err error) {
	if len(c.data) < len(magic) || string(c.data[:len(magic)]) != magic {
		return 0, 0, fail(ErrFormat, 0, "it does not begin with %q", magic)
	}
	if len(c.data) < headBytes {
		return 0, 0, fail(ErrFormat, len(c.data), "the file ends before its counts")
	}
	f.Version = binary.LittleEndian.Uint32(c.data[4:])
	switch {
	case f.Version&0xffff == 0: // 0x03000000 is 3 the other way round
		return 0, 0, fail(ErrUnsupported, 4, "version %#08x: the byte order is that of a big-endian machine; convert the file", f.Version)
	case f.Version < 2 || f.Version > 3:
		return 0, 0, fail(ErrUnsupported, 4, "version %d; versions 2 and 3 are known", f.Version)
	}
	nt, nk := binary.LittleEndian.Uint64(c.data[8:]), binary.LittleEndian.Uint64(c.data[16:])
	left := uint64(len(c.data) - headBytes)
	switch {
	case nt > MaxTensors:
		return 0, 0, fail(ErrFormat, 8, "%d tensors; at most %d are read", nt, MaxTensors)
	case nk > MaxKeys:
		return 0, 0, fail(ErrFormat, 16, "%d keys; at most %d are read", nk, MaxKeys)
	case nk*minKeyBytes > left:
		return 0, 0, fail(ErrFormat, 16, "%d keys take at least %d bytes, the file ends after %d", nk, nk*minKeyBytes, left)
	case nk*minKeyBytes+nt*minTensorBytes > left:
		return 0, 0, fail(ErrFormat, 8, "%d keys and %d tensors take at least %d bytes, the file ends after %d", nk, nt, nk*minKeyBytes+nt*minTensorBytes, left)
	}
	c.at = headBytes
	return int(nt), int(nk), nil
}

func (c *cursor) keys(f *File, count int) error {
	f.keys = map[string]int{}
	for i := range count {
		at := c.at
		key, err := c.name("the key", MaxKeyLength)
		if err != nil {
			return err.about(fmt.Sprintf("key %d", i))
		}
		if j, ok := f.keys[key]; ok {
			return fail(ErrFormat, at, "the key is there twice, as number %d and %d", j, i).about(fmt.Sprintf("key %q", key))
		}
		f.keys[key] = i
		valueAt := c.at
		if err = c.value(); err == nil && c.at-headBytes > MaxMetadata {
			err = fail(ErrFormat, valueAt, "keys and values take %d bytes and more; at most %d are read", c.at-headBytes, MaxMetadata)
		}
		kv := KeyValue{Key: key, raw: c.data[valueAt:c.at:c.at]}
		if err == nil && key == alignmentKey {
			err = f.align(kv, valueAt)
		}
		if err != nil {
			return err.about(fmt.Sprintf("key %q", key))
		}
		kv.raw = append([]byte(nil), kv.raw...) // the file's bytes go with Close
		f.Keys = append(f.Keys, kv)
	}
	return nil
}

// align takes the alignment from its key.
func (f *File) align(kv KeyValue, at int) *Error {
	t, _ := kv.Type()
	if t != Uint32 {
		return fail(ErrFormat, at, "its type is %v; it must be uint32", t)
	}
	a := int64(kv.Value().(uint32))
	if a < 8 || a > MaxAlignment || a&(a-1) != 0 {
		return fail(ErrFormat, at+4, "an alignment of %d; it must be a power of two from 8 to %d", a, MaxAlignment)
	}
	f.Alignment = a
	return nil
}

// value walks over a value of any type and checks it.
func (c *cursor) value() *Error {
	at := c.at
	t, err := c.uint32("the value's type")
	if err != nil {
		return err
	}
	n := uint64(1)
	if ValueType(t) == Array {
		at = c.at
		if t, err = c.uint32("the type of the array's elements"); err != nil {
			return err
		}
		if ValueType(t) == Array {
			return fail(ErrUnsupported, at, "an array of arrays")
		}
		if n, err = c.uint64("the array's length"); err != nil {
			return err
		}
	}
	if int64(t) >= int64(len(valueTypes)) {
		return fail(ErrFormat, at, "%v; types up to %d are known", ValueType(t), len(valueTypes)-1)
	}
	least := uint64(valueTypes[t].bytes)
	if ValueType(t) == String {
		least = 8
	}
	if left := uint64(len(c.data) - c.at); n > left/least {
		return fail(ErrFormat, c.at, "%d values of type %v take at least %d bytes each, the file ends after %d", n, ValueType(t), least, left)
	}
	if ValueType(t) == String {
		for range n {
			if _, err := c.text("a string", MaxString); err != nil {
				return err
			}
		}
		return nil
	}
	at = c.at
	data, err := c.take(int(n*least), "the value")
	if err == nil && ValueType(t) == Bool {
		for i, b := range data {
			if b > 1 {
				return fail(ErrFormat, at+i, "a bool of %d", b)
			}
		}
	}
	return err
}

func (c *cursor) tensors(f *File, count int, size int64) error {
	const few = 1 << 12 // a forged count costs no more than this many; one that holds so far gets its memory at once, which the bytes that are there bound
	f.names = make(map[string]int, min(count, few))
	var offsets []int // where each offset is written
	var dims []int64
	for i := range count {
		if i == few {
			names := make(map[string]int, count)
			maps.Copy(names, f.names)
			f.names = names
			f.Tensors, offsets = slices.Grow(f.Tensors, count-few), slices.Grow(offsets, count-few)
		}
		at := c.at
		name, err := c.name("the name", MaxNameLength)
		if err != nil {
			return err.about(fmt.Sprintf("tensor %d", i))
		}
		if j, ok := f.names[name]; ok {
			err = fail(ErrFormat, at, "the name is there twice, as number %d and %d", j, i)
		}
		f.names[name] = i
		info := Info{Name: name}
		if err == nil {
			if cap(dims)-len(dims) < MaxDims {
				dims = make([]int64, 0, min(count-i, few)*MaxDims) // of many tensors, so that 10^6 are not 10^6 allocations
			}
			dims, err = c.info(&info, dims)
		}
		if err != nil {
			return err.about(fmt.Sprintf("tensor %q", name))
		}
		offsets = append(offsets, c.at-8)
		f.Tensors = append(f.Tensors, info)
	}
	if count == 0 {
		return nil
	}
	base := pad(int64(c.at), f.Alignment)
	next := int64(0) // of the offsets, which count from base; never beyond size by more than the alignment
	for i := range f.Tensors {
		info := &f.Tensors[i]
		var err *Error
		switch {
		case info.Offset != next:
			err = fail(ErrFormat, offsets[i], "its data is said to begin at %d of the data; it must follow the tensor before it, at %d", uint64(info.Offset), next)
		case base > size || info.Size > size-base-next:
			err = fail(ErrFormat, offsets[i], "its data takes bytes %d to %d, the file ends at %d", uint64(base+next), uint64(base+next)+uint64(info.Size), size)
		}
		if err != nil {
			return err.about(fmt.Sprintf("tensor %q", info.Name))
		}
		info.Offset += base
		next = pad(next+info.Size, f.Alignment)
	}
	return nil
}

// info reads a tensor's dimensions, type and offset. Offset is still the one in the file, from the begin of the data. The dimensions go behind those in dims, which is
// returned with them and has room for MaxDims.
func (c *cursor) info(info *Info, dims []int64) ([]int64, *Error) {
	at := c.at
	n, err := c.uint32("the number of dimensions")
	if err != nil {
		return dims, err
	}
	if n < 1 || n > MaxDims {
		return dims, fail(ErrFormat, at, "%d dimensions; 1 to %d are possible", n, MaxDims)
	}
	dimsAt, before := c.at, len(dims)
	for i := range int(n) {
		at := c.at
		d, err := c.uint64("a dimension")
		if err != nil {
			return dims, err
		}
		if d > math.MaxInt64 {
			return dims, fail(ErrFormat, at, "dimension %d is %d", i, int64(d))
		}
		dims = append(dims, int64(d))
	}
	info.Dims = dims[before:len(dims):len(dims)]
	typeAt := c.at
	t, err := c.uint32("the type")
	if err != nil {
		return dims, err
	}
	info.Type = Type(t)
	var dim int
	if info.Size, dim, err = measure(info.Type, info.Dims); err != nil {
		if err.Offset = int64(typeAt); dim >= 0 {
			err.Offset = int64(dimsAt + 8*dim)
		}
		if err.Err == ErrBlock { // here it is the file that is wrong
			err.Err = ErrFormat
		}
		return dims, err
	}
	offset, err := c.uint64("the offset")
	info.Offset = int64(offset) // compared with the sum, so a wrapped one is found
	return dims, err
}

// pad rounds up to a multiple of the alignment. n lies far enough below 2^63: it was compared with the size of a file.
func pad(n, alignment int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }
