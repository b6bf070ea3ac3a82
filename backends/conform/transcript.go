// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"bytes"
	"fmt"
	"math"
	"unsafe"
)

// transcript is what came back from a call, as bytes in the machine's order: little-endian wherever there are native kernels.
type transcript struct {
	bytes []byte
	parts []part
}

// part is the values of one result.
type part struct {
	label string
	end   int // in bytes
	size  int // of a value
	show  func(b []byte) any
}

func (t *transcript) reset() { t.bytes, t.parts = t.bytes[:0], t.parts[:0] }

// record takes values down. Every NaN counts as the same.
func record[E int8 | byte | int32 | int64 | float32 | float64](t *transcript, label string, v []E) {
	begin := len(t.bytes)
	t.bytes = append(t.bytes, raw(v)...)
	var e E
	size := int(unsafe.Sizeof(e))
	for i, x := range v {
		if x != x {
			copy(t.bytes[begin+i*size:][:size], raw([]E{quiet(e)}))
		}
	}
	t.parts = append(t.parts, part{label, len(t.bytes), size, func(b []byte) any { return *(*E)(unsafe.Pointer(unsafe.SliceData(bytes.Clone(b)))) }})
}

// quiet is the NaN that stands for all, as the type of e.
func quiet[E any](e E) E {
	switch p := any(&e).(type) {
	case *float32:
		*p = float32(math.NaN())
	case *float64:
		*p = math.NaN()
	}
	return e
}

// differ says in words where t is not want; it is empty when they are the same.
func (t *transcript) differ(want *transcript) string {
	if bytes.Equal(t.bytes, want.bytes) && len(t.parts) == len(want.parts) {
		return ""
	}
	begin := 0
	for i, p := range t.parts {
		if i == len(want.parts) {
			return p.label + ": pure Go has none"
		}
		q := want.parts[i]
		if p.label == "error" && q.label == "error" {
			if a, b := t.bytes[begin:p.end], want.bytes[begin:q.end]; !bytes.Equal(a, b) {
				return fmt.Sprintf("error %q, pure Go %q", a, b)
			}
		}
		if p.label != q.label || p.end != q.end {
			return fmt.Sprintf("%s to byte %d, pure Go %s to byte %d", p.label, p.end, q.label, q.end)
		}
		for at := begin; at < p.end; at += p.size {
			if a, b := t.bytes[at:at+p.size], want.bytes[at:at+p.size]; !bytes.Equal(a, b) {
				return fmt.Sprintf("%s[%d] is %v (%x), pure Go %v (%x)", p.label, (at-begin)/p.size, p.show(a), a, p.show(b), b)
			}
		}
		begin = p.end
	}
	return fmt.Sprintf("%d results, pure Go %d", len(t.parts), len(want.parts))
}
