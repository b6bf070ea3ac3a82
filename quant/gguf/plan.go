// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// plan lays a file out: it returns the header, padding included, and the tensors with offsets and sizes. The header is read back with the checks of a reader, so that
// nothing is written that Open would refuse.
func plan(keys []KeyValue, tensors []Info) (header []byte, laid []Info, alignment int64, err error) {
	f := &File{Alignment: defaultAlignment}
	b := append([]byte(magic), 3, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(keys)))
	for _, kv := range keys {
		at := len(b)
		if len(kv.raw) < 5 {
			return nil, nil, 0, fail(ErrPlan, at, "it has no value; make keys with NewKey").about(fmt.Sprintf("key %q", kv.Key))
		}
		b = append(appendString(b, kv.Key), kv.raw...)
		if kv.Key == alignmentKey {
			if e := f.align(kv, at+8+len(kv.Key)); e != nil {
				e.Err = ErrPlan
				return nil, nil, 0, e.about(fmt.Sprintf("key %q", kv.Key))
			}
		}
	}
	next := int64(0)
	for _, t := range tensors {
		size, e := lay(t, next)
		if e != nil {
			e.Offset = int64(len(b))
			return nil, nil, 0, e.about(fmt.Sprintf("tensor %q", t.Name))
		}
		b = binary.LittleEndian.AppendUint32(appendString(b, t.Name), uint32(len(t.Dims)))
		for _, n := range t.Dims {
			b = binary.LittleEndian.AppendUint64(b, uint64(n))
		}
		b = binary.LittleEndian.AppendUint64(appendUint32(b, uint32(t.Type)), uint64(next))
		next = pad(next+size, f.Alignment)
	}
	end := pad(int64(len(b)), f.Alignment)
	read, err := parse(b, end+next)
	if e, ok := err.(*Error); ok && e.Err == ErrFormat {
		e.Err = ErrPlan
	}
	if err != nil {
		return nil, nil, 0, err
	}
	return append(b, make([]byte, end-int64(len(b)))...), read.Tensors, f.Alignment, nil
}

// lay computes a tensor's size and checks what would not even fit a header.
func lay(t Info, next int64) (int64, *Error) {
	if len(t.Dims) < 1 || len(t.Dims) > MaxDims {
		return 0, fail(ErrPlan, 0, "%d dimensions; 1 to %d are possible", len(t.Dims), MaxDims)
	}
	size, _, err := measure(t.Type, t.Dims)
	switch {
	case err == nil && size > math.MaxInt64/2-next:
		return 0, fail(ErrPlan, 0, "the file would have more than 2^62 bytes")
	case err == nil:
		return size, nil
	case err.Err == ErrBlock && t.Type.Ternary():
		err.Detail += "; write the tensor as F16, or write an .stn file, which has rows of any length"
	case err.Err == ErrFormat:
		err.Err = ErrPlan
	}
	return 0, err
}
