// SPDX-License-Identifier: Apache-2.0

package npy

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

const (
	magic = "\x93NUMPY"

	// MaxHeader is the longest header that is read, in bytes. NumPy's own limit is below it.
	MaxHeader = 64 << 10

	maxPrefix = len(magic) + 2 + 4 + MaxHeader // of a file that ParseHeader may want to see
	maxDims   = 64                             // NumPy's
)

// Header is what a file says of its values.
type Header struct {
	Descr   string // the type as NumPy writes it, "<f4"
	Shape   []int
	Count   int  // values: the product of Shape
	Size    int  // bytes of a value
	Fortran bool // the first index runs fastest
	Offset  int  // of the first value

	at struct{ descr, fortran, shape int } // where the header says so
}

// ParseHeader reads the header of a file of size bytes that begins with prefix. The prefix may be cut off after the header. A file that is too short or too long
// for its header is ErrFormat; types other than booleans and numbers are ErrUnsupported. Byte order, type and Fortran order are for the caller to judge.
func ParseHeader(prefix []byte, size int64) (*Header, error) {
	if len(prefix) < len(magic) || string(prefix[:len(magic)]) != magic {
		return nil, fail(ErrFormat, 0, "it does not begin with the magic string of npy")
	}
	lengthAt := len(magic) + 2
	if len(prefix) < lengthAt+4 { // a version 1 file has that many bytes too, or it has no header
		return nil, fail(ErrFormat, len(prefix), "the file ends before its header")
	}
	var length uint32
	begin := lengthAt + 4
	switch major, minor := prefix[len(magic)], prefix[len(magic)+1]; {
	case minor != 0 || major < 1 || major > 3:
		return nil, fail(ErrUnsupported, len(magic), "format version %d.%d; versions 1.0, 2.0 and 3.0 are known", major, minor)
	case major == 1:
		begin = lengthAt + 2
		length = uint32(binary.LittleEndian.Uint16(prefix[lengthAt:]))
	default:
		length = binary.LittleEndian.Uint32(prefix[lengthAt:])
	}
	if length > MaxHeader {
		return nil, fail(ErrFormat, lengthAt, "a header of %d bytes; at most %d are read", length, MaxHeader)
	}
	if int(length) > len(prefix)-begin {
		return nil, fail(ErrFormat, lengthAt, "a header of %d bytes, but the file ends %d bytes after its begin", length, len(prefix)-begin)
	}
	h := &Header{Offset: begin + int(length)}
	p := &parser{text: prefix[:h.Offset], at: begin}
	if err := p.dict(h); err != nil {
		return nil, err
	}
	return h, h.check(size)
}

// check computes Count and compares it with the file's size.
func (h *Header) check(size int64) error {
	n, ok := product(h.Shape)
	if !ok || n > math.MaxInt/h.Size {
		return fail(ErrFormat, h.at.shape, "shape %s of %d bytes each overflows", h.ShapeString(), h.Size)
	}
	h.Count = n
	want := int64(h.Count) * int64(h.Size)
	switch have := size - int64(h.Offset); {
	case have < want:
		return fail(ErrFormat, h.Offset, "shape %s of %d bytes each takes %d bytes, the file ends after %d", h.ShapeString(), h.Size, want, max(0, have))
	case have > want:
		return fail(ErrFormat, h.Offset+int(want), "%d bytes follow the values", have-want)
	}
	return nil
}

// product multiplies the sizes of a shape; false for a negative size and for a product that overflows.
func product(shape []int) (int, bool) {
	if slices.ContainsFunc(shape, func(n int) bool { return n < 0 }) {
		return 0, false
	}
	if slices.Contains(shape, 0) { // however large the others are
		return 0, true
	}
	count := 1
	for _, n := range shape {
		hi, lo := bits.Mul64(uint64(count), uint64(n))
		if hi != 0 || lo > math.MaxInt {
			return 0, false
		}
		count = int(lo)
	}
	return count, true
}

// ShapeString formats the shape as Python does: "(3, 4)", "(5,)".
func (h *Header) ShapeString() string {
	var b strings.Builder
	b.WriteByte('(')
	for i, n := range h.Shape {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(n))
	}
	if len(h.Shape) == 1 {
		b.WriteByte(',')
	}
	b.WriteByte(')')
	return b.String()
}

// parser reads the dict literal, strictly: the three keys once each, in any order, and nothing that would need evaluation.
type parser struct {
	text []byte
	at   int
}

// space skips white space and returns the next byte, 0 at the end.
func (p *parser) space() byte {
	for ; p.at < len(p.text); p.at++ {
		if c := p.text[p.at]; c != ' ' && c != '\n' {
			return c
		}
	}
	return 0
}

// eat takes c if it comes next.
func (p *parser) eat(c byte) bool {
	if p.space() != c || c == 0 {
		return false
	}
	p.at++
	return true
}

func (p *parser) need(c byte) error {
	if !p.eat(c) {
		return fail(ErrFormat, p.at, "%q is missing in the header", c)
	}
	return nil
}

func (p *parser) dict(h *Header) error {
	if err := p.need('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for !p.eat('}') {
		if len(seen) > 0 {
			if err := p.need(','); err != nil {
				return err
			}
			if p.eat('}') {
				break
			}
		}
		p.space()
		keyAt := p.at
		key, err := p.quoted()
		if err != nil {
			return err
		}
		if seen[key] {
			return fail(ErrFormat, keyAt, "key %q is there twice", key)
		}
		seen[key] = true
		if err := p.need(':'); err != nil {
			return err
		}
		switch p.space(); key {
		case "descr":
			h.at.descr = p.at
			err = p.descr(h)
		case "fortran_order":
			h.at.fortran = p.at
			err = p.boolean(&h.Fortran)
		case "shape":
			h.at.shape = p.at
			err = p.shape(h)
		default:
			err = fail(ErrFormat, keyAt, "key %q is not known", key)
		}
		if err != nil {
			return err
		}
	}
	for _, key := range []string{"descr", "fortran_order", "shape"} {
		if !seen[key] {
			return fail(ErrFormat, p.at, "the header has no %s", key)
		}
	}
	if p.space() != 0 || p.at < len(p.text) {
		return fail(ErrFormat, p.at, "something follows the header's dict")
	}
	return nil
}

// quoted reads a short string without escapes.
func (p *parser) quoted() (string, error) {
	q, begin := p.space(), p.at+1
	if q != '\'' && q != '"' {
		return "", fail(ErrFormat, p.at, "a quoted string is missing in the header")
	}
	for i := begin; i < len(p.text) && i < begin+64; i++ {
		switch c := p.text[i]; {
		case c == q:
			p.at = i + 1
			return string(p.text[begin:i]), nil
		case c == '\\' || c < ' ' || c > '~':
			return "", fail(ErrFormat, i, "byte %#02x in a string of the header", c)
		}
	}
	return "", fail(ErrFormat, begin-1, "a string of the header does not end")
}

// descr reads a type such as '<f4' and the size it says.
func (p *parser) descr(h *Header) error {
	if p.space() == '[' {
		return fail(ErrUnsupported, p.at, "the values are records; save one field, or a plain array")
	}
	at := p.at
	s, err := p.quoted()
	if err != nil {
		return err
	}
	if len(s) < 3 || !strings.ContainsRune("<>|", rune(s[0])) {
		return fail(ErrFormat, at, "descr is %q, not a type such as '<f4'", s)
	}
	if !strings.ContainsRune("biufc", rune(s[1])) {
		return fail(ErrUnsupported, at, "descr is %q, which is neither boolean nor a number", s)
	}
	size, err := strconv.Atoi(s[2:])
	if err != nil || size < 1 || size > 64 || s[2] == '+' {
		return fail(ErrFormat, at, "descr is %q, not a type such as '<f4'", s)
	}
	h.Descr, h.Size = s, size
	return nil
}

func (p *parser) boolean(v *bool) error {
	for _, word := range []string{"False", "True"} {
		if strings.HasPrefix(string(p.text[p.at:min(p.at+len(word), len(p.text))]), word) {
			*v = word == "True"
			p.at += len(word)
			return nil
		}
	}
	return fail(ErrFormat, p.at, "neither True nor False")
}

// shape reads a tuple of sizes: (), (5,) or (3, 4).
func (p *parser) shape(h *Header) error {
	if err := p.need('('); err != nil {
		return err
	}
	h.Shape = []int{}
	for comma := false; !p.eat(')'); {
		if len(h.Shape) > 0 && !comma {
			return fail(ErrFormat, p.at, "the shape is not a tuple")
		}
		p.space()
		at := p.at
		for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
			p.at++
		}
		n, err := strconv.Atoi(string(p.text[at:min(p.at, at+20)]))
		if err != nil || p.at-at > 20 || p.at-at > 1 && p.text[at] == '0' {
			return fail(ErrFormat, at, "a size in the shape is missing or too large")
		}
		if len(h.Shape) == maxDims {
			return fail(ErrFormat, at, "more than %d dimensions", maxDims)
		}
		h.Shape = append(h.Shape, n)
		if comma = p.eat(','); !comma && len(h.Shape) == 1 {
			return fail(ErrFormat, p.at, "the shape is not a tuple") // (5) is a number in Python
		}
	}
	return nil
}
