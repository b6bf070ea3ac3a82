// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/setun-compute/setun/backends"
)

const (
	zone   = 256  // bytes on either side of an operand that are looked at afterwards
	canary = 0x5A // what they hold
	unset  = 0xA5 // what outputs hold before the call
	line   = 64
	room   = 256 << 10
)

// number is an element of an operand.
type number interface {
	int8 | uint8 | int32 | int64 | float32 | float64
}

// ground is the memory that a call gets, in one piece, with zones that nobody may write between the operands.
type ground struct {
	memory []byte
	zones  [][2]int
	given  []pair
	top    int
}

// pair is an input and what it was.
type pair struct{ now, then []byte }

func (g *ground) reset() {
	g.zones, g.given, g.top = g.zones[:0], g.given[:0], 0
}

// cut returns n bytes at an odd place for vector loads, but one that suits the type.
func (g *ground) cut(n, align int) []byte {
	from := (g.top+zone+line-1)/line*line + align
	if need := from + n + 2*zone; need > len(g.memory) {
		g.memory = make([]byte, max(room, 2*need)) // room is enough for every trial, so this is the first operand
		g.zones = g.zones[:0]
	}
	g.guard(from-zone, from)
	g.guard(from+n, from+n+zone)
	g.top = from + n
	return g.memory[from : from+n : from+n]
}

func (g *ground) guard(from, to int) {
	fill(g.memory[from:to], canary)
	g.zones = append(g.zones, [2]int{from, to})
}

// fill sets all bytes. Copies of what is set already are much faster than a loop over bytes, which would be a good part of a test's time.
func fill(b []byte, value byte) {
	if len(b) == 0 {
		return
	}
	b[0] = value
	for n := 1; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}

// untouched is a zone that nobody wrote to.
var untouched = strings.Repeat(string(rune(canary)), zone)

// disturbed says what a call did that it must not have done; it is empty when that is nothing.
func (g *ground) disturbed() string {
	for _, z := range g.zones {
		if string(g.memory[z[0]:z[1]]) == untouched {
			continue
		}
		for at, b := range g.memory[z[0]:z[1]] {
			if b != canary {
				return fmt.Sprintf("it wrote outside its operands, %d bytes into a guard zone", at)
			}
		}
	}
	for i, p := range g.given {
		if string(p.now) != string(p.then) {
			return fmt.Sprintf("it changed input %d", i)
		}
	}
	return ""
}

// output is memory for n values that a kernel writes.
func output[E number](g *ground, n int) []E {
	var e E
	b := g.cut(n*int(unsafe.Sizeof(e)), int(unsafe.Alignof(e)))
	fill(b, unset)
	return unsafe.Slice((*E)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// inout is a copy of v for a kernel to change. nil stays nil.
func inout[E number](g *ground, v []E) []E {
	if v == nil {
		return nil
	}
	w := output[E](g, len(v))
	copy(w, v)
	return w
}

// input is a copy of v that a kernel must not change.
func input[E number](g *ground, v []E) []E {
	w := inout(g, v)
	if len(v) > 0 {
		g.given = append(g.given, pair{backends.Bytes(w), backends.Bytes(v)})
	}
	return w
}

// some is input, and nil for nothing.
func some[E number](g *ground, v []E) []E {
	if len(v) == 0 {
		return nil
	}
	return input(g, v)
}

// results are what a call wrote, by name.
type results struct {
	names []string
	ends  []int
	sizes []int
	show  []func(b []byte) any
	bytes []byte
}

func (r *results) reset() {
	r.names, r.ends, r.sizes, r.show, r.bytes = r.names[:0], r.ends[:0], r.sizes[:0], r.show[:0], r.bytes[:0]
}

// take adds a result.
func take[E number](r *results, name string, v []E) {
	var e E
	r.bytes = append(r.bytes, backends.Bytes(v)...)
	r.names, r.ends, r.sizes = append(r.names, name), append(r.ends, len(r.bytes)), append(r.sizes, int(unsafe.Sizeof(e)))
	r.show = append(r.show, func(b []byte) any {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&e)), len(b)), b)
		return e
	})
}

// differ says where r is not want; it is empty when they are the same.
func (r *results) differ(want *results) string {
	if string(r.bytes) == string(want.bytes) {
		return ""
	}
	begin := 0
	for i, end := range want.ends {
		for at := begin; at < end && at < len(r.bytes); at += want.sizes[i] {
			a, b := r.bytes[at:at+want.sizes[i]], want.bytes[at:at+want.sizes[i]]
			if string(a) != string(b) {
				return fmt.Sprintf("%s[%d] is %v (bits %x), pure Go has %v (%x)", want.names[i], (at-begin)/want.sizes[i], want.show[i](a), a, want.show[i](b), b)
			}
		}
		begin = end
	}
	return "it gives other results than pure Go"
}
