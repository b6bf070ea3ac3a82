// SPDX-License-Identifier: Apache-2.0

package safetensors

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// Info describes a tensor.
type Info struct {
	Name   string
	Type   string // as the format writes it, "BF16"
	Shape  []int  // the last runs fastest; empty for a scalar; 0 is possible
	Offset int64  // of its data, from the file's begin
	Size   int64  // bytes of its data
	Path   string // of the file that it lies in; empty when the bytes did not come from a named file

	file   int
	at     int   // where the header names it
	begins int64 // in the data, as the header says
}

// Count returns the number of values: 1 for a scalar, 0 when a dimension is 0.
func (t *Info) Count() int {
	n, _ := product(t.Shape)
	return n
}

// Cols returns the values of a row: the last dimension, 1 for a scalar.
func (t *Info) Cols() int {
	if len(t.Shape) == 0 {
		return 1
	}
	return t.Shape[len(t.Shape)-1]
}

// Rows returns the number of rows: the product of all dimensions but the last, 1 for a scalar, 0 when the tensor has no values.
func (t *Info) Rows() int {
	n := t.Count()
	if n == 0 {
		return 0
	}
	return n / t.Cols()
}

// typeBits gives the bits of a value of each type, as the reference implementation has them.
func typeBits(t string) (n int, ok bool) {
	switch t {
	case "F4":
		return 4, true
	case "F6_E2M3", "F6_E3M2":
		return 6, true
	case "BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ":
		return 8, true
	case "I16", "U16", "F16", "BF16":
		return 16, true
	case "I32", "U32", "F32":
		return 32, true
	case "I64", "U64", "F64", "C64":
		return 64, true
	}
	return 0, false
}

// product multiplies the sizes of a shape; false when that overflows.
func product(shape []int) (int, bool) {
	if slices.Contains(shape, 0) { // however large the others are
		return 0, true
	}
	count := 1
	for _, n := range shape {
		hi, lo := bits.Mul64(uint64(count), uint64(n))
		if hi != 0 || lo > math.MaxInt/8 { // so that the bytes of float32 values and the bits of 64-bit ones can be counted
			return 0, false
		}
		count = int(lo)
	}
	return count, true
}

// header is what a file says of itself.
type header struct {
	tensors  []Info // in the order of their data
	metadata map[string]string
}

// parseHeader reads the header of a file of size bytes that begins with data, which is cut off after the header or not.
func parseHeader(data []byte, size int64) (*header, error) {
	if len(data) < 8 {
		return nil, fail(ErrFormat, len(data), "the file ends before its header's length")
	}
	n := binary.LittleEndian.Uint64(data)
	switch {
	case n > MaxHeader:
		return nil, fail(ErrFormat, 0, "a header of %d bytes; at most %d are read", n, MaxHeader)
	case n > uint64(len(data)-8):
		return nil, fail(ErrFormat, 0, "a header of %d bytes, the file ends after %d", n, len(data)-8)
	}
	p := newParser(data[8:][:n], 8, ErrFormat)
	h := &header{}
	if len(p.Text) == 0 || p.Text[0] != '{' { // the format says that nothing stands before it
		return nil, p.fail(0, "the header does not begin with '{'")
	}
	names := map[string]struct{}{}
	err := p.Object(func(at int, name string) error {
		if _, twice := names[name]; twice {
			return about(p.fail(at, "the name is there twice"), name)
		}
		names[name] = struct{}{}
		if name == "__metadata__" {
			return h.readMetadata(p)
		}
		if len(h.tensors) == MaxTensors {
			return p.fail(at, "more than %d tensors", MaxTensors)
		}
		t := Info{Name: name, at: p.base + at}
		if err := p.entry(&t); err != nil {
			return about(err, name)
		}
		h.tensors = append(h.tensors, t)
		return nil
	})
	if err == nil {
		err = p.End()
	}
	if err == nil {
		err = h.place(8+int64(n), size)
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (h *header) readMetadata(p *parser) error {
	h.metadata = map[string]string{}
	return p.Object(func(at int, name string) error {
		if _, twice := h.metadata[name]; twice {
			return p.fail(at, "%q is twice in the metadata", name)
		}
		if len(h.metadata) == MaxMetadata {
			return p.fail(at, "more than %d entries of metadata", MaxMetadata)
		}
		text, err := p.String()
		h.metadata[name] = text
		return err
	})
}

// entry reads what the header says of one tensor: the three fields once each, in any order, and no others.
func (p *parser) entry(t *Info) error {
	var dtype, shape, offsets bool
	var span []int64
	shapeAt, offsetsAt := 0, 0
	p.Next()
	begin := p.At
	err := p.Object(func(at int, name string) error {
		var seen *bool
		switch name {
		case "dtype":
			seen = &dtype
		case "shape":
			seen = &shape
		case "data_offsets":
			seen = &offsets
		default:
			return p.fail(at, "the field %q is not known", name)
		}
		if *seen {
			return p.fail(at, "the field %q is there twice", name)
		}
		*seen = true
		p.Next()
		switch name {
		case "dtype":
			at := p.At
			text, err := p.String()
			if _, known := typeBits(text); err == nil && !known {
				err = fail(ErrUnsupported, p.base+at, "its type is %q, whose size is not known", text)
			}
			t.Type = text
			return err
		case "shape":
			shapeAt = p.At
			t.Shape = []int{}
			return p.Array(func() error {
				n, err := p.Size(math.MaxInt64)
				if err == nil && (len(t.Shape) == MaxDims || n > math.MaxInt) {
					err = p.fail(shapeAt, "more than %d dimensions, or one too large", MaxDims)
				}
				t.Shape = append(t.Shape, int(n))
				return err
			})
		}
		offsetsAt = p.At
		return p.Array(func() error {
			n, err := p.Size(math.MaxInt64)
			if err == nil && len(span) == 2 {
				err = p.fail(offsetsAt, "more than two data_offsets")
			}
			span = append(span, n)
			return err
		})
	})
	switch {
	case err != nil:
		return err
	case !dtype || !shape || !offsets:
		return p.fail(begin, "a field is missing: dtype, shape and data_offsets are needed")
	case len(span) != 2 || span[0] > span[1]:
		return p.fail(offsetsAt, "data_offsets %v are no begin and end", span)
	}
	t.begins, t.Size = span[0], span[1]-span[0]
	count, ok := product(t.Shape)
	if !ok {
		return p.fail(shapeAt, "the shape %v overflows", t.Shape)
	}
	width, _ := typeBits(t.Type)
	if hi, lo := bits.Mul64(uint64(count), uint64(width)); hi != 0 || lo%8 != 0 || lo/8 != uint64(t.Size) {
		return p.fail(offsetsAt, "data_offsets %v take %d bytes; %s of shape %v takes %s", span, t.Size, t.Type, t.Shape, bytesOf(hi, lo))
	}
	return nil
}

// bytesOf formats a number of bits, hi·2^64+lo, as bytes.
func bytesOf(hi, lo uint64) string {
	if hi == 0 && lo%8 == 0 {
		return fmt.Sprint(lo / 8)
	}
	return "another number"
}

// place puts the tensors in the order of their data, checks that they follow each other and fill a file of size bytes, and turns offsets into those of the file.
func (h *header) place(base, size int64) error {
	slices.SortFunc(h.tensors, func(a, b Info) int {
		return cmp.Or(cmp.Compare(a.begins, b.begins), cmp.Compare(a.Size, b.Size), cmp.Compare(a.at, b.at))
	})
	next := int64(0)
	for i := range h.tensors {
		t := &h.tensors[i]
		switch {
		case t.begins != next:
			return fail(ErrFormat, t.at, "its data begins at %d of the data; the tensor before it ends at %d: no gaps and overlaps are possible", t.begins, next).about(t.Name)
		case t.Size > size-base-next:
			return fail(ErrFormat, t.at, "its data takes bytes %d to %d of the data, the file has %d", t.begins, uint64(t.begins)+uint64(t.Size), size-base).about(t.Name)
		}
		t.Offset = base + next
		next += t.Size
	}
	if next != size-base {
		return fail(ErrFormat, base+next, "%d bytes follow the last tensor", size-base-next)
	}
	return nil
}
