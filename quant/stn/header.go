// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/setun-compute/setun/quant"
)

// appendHeader appends the JSON header: the same bytes for the same contents.
func appendHeader(b []byte, metadata map[string]string, tensors []Info) []byte {
	b = append(b, `{"metadata":{`...)
	for i, key := range slices.Sorted(maps.Keys(metadata)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, key)
		b = append(b, ':')
		b = appendQuoted(b, metadata[key])
	}
	b = append(b, `},"tensors":[`...)
	for i := range tensors {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '\n')
		b = appendInfo(b, &tensors[i])
	}
	return append(b, "]}\n"...)
}

func appendInfo(b []byte, t *Info) []byte {
	b = append(b, `{"name":`...)
	b = appendQuoted(b, t.Name)
	b = append(b, `,"shape":[`...)
	for i, n := range t.Shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	kind := t.Kind.String()
	if t.Kind == Quantized {
		kind = t.Levels.String()
	}
	b = fmt.Appendf(b, `],"kind":"%s"`, kind)
	if t.Kind == Quantized {
		b = fmt.Appendf(b, `,"coding":"%v","cols":%d,"group":%d`, t.Coding, t.Cols, t.Group)
		if t.Coding == RANS {
			b = fmt.Appendf(b, `,"pack":%d`, t.Pack)
		}
		b = fmt.Appendf(b, `,"scales":"%v"`, t.ScaleKind)
	}
	b = append(b, `,"sections":[`...)
	for i, s := range t.sections() {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "[%d,%d]", s.Offset, s.Size)
	}
	return append(b, "]}"...)
}

// sections returns the tensor's sections in the order in which they lie in the file.
func (i *Info) sections() []*Section {
	switch {
	case i.Kind != Quantized:
		return []*Section{&i.Codes}
	case i.Coding >= Planes:
		return []*Section{&i.Codes, &i.Index, &i.Scales}
	}
	return []*Section{&i.Codes, &i.Scales}
}

// appendQuoted appends a JSON string; s is valid UTF-8.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// checkName says what is wrong with a tensor's name; nil when nothing is.
func checkName(name string) *Error {
	switch {
	case len(name) > MaxName:
		return fail(ErrLimit, 0, "a name of %d bytes; at most %d are allowed", len(name), MaxName)
	case name == "" || !utf8.ValidString(name):
		return fail(ErrFormat, 0, "the name %q is empty, or not UTF-8", name)
	}
	return nil
}

// checkShape says what is wrong with a shape; nil when nothing is.
func checkShape(shape []int64) *Error {
	if len(shape) > MaxDims {
		return fail(ErrLimit, 0, "more than %d dimensions", MaxDims)
	}
	values := int64(1)
	for _, n := range shape {
		switch {
		case n < 1:
			return fail(ErrFormat, 0, "shape %v has no values", shape)
		case n > MaxValues/values:
			return fail(ErrLimit, 0, "shape %v has more than 2^48 values", shape)
		}
		values *= n
	}
	return nil
}

// checkMetadata says what is wrong with metadata; nil when nothing is.
func checkMetadata(metadata map[string]string) *Error {
	if len(metadata) > MaxKeys {
		return fail(ErrLimit, 0, "metadata of %d keys; at most %d are allowed", len(metadata), MaxKeys)
	}
	size := 0
	for key, value := range metadata {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return fail(ErrFormat, 0, "metadata %q is not UTF-8", key)
		}
		size += len(key) + len(value)
	}
	if size > MaxMetadata {
		return fail(ErrLimit, 0, "metadata of %d bytes; at most %d are allowed", size, MaxMetadata)
	}
	return nil
}

// parseKind reads the header's word for what a tensor is.
func parseKind(t *Info, word string) bool {
	for _, k := range []Kind{F32, F16, BF16} {
		if k.String() == word {
			t.Kind = k
			return true
		}
	}
	for _, l := range []quant.Levels{quant.Ternary, quant.Quinary, quant.Sparse} {
		if l.String() == word {
			t.Kind, t.Levels = Quantized, l
			return true
		}
	}
	return false
}
