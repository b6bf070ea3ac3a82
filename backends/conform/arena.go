// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"bytes"
	"fmt"
	"unsafe"
)

const (
	line   = 64   // bytes of a cache line
	watch  = 256  // bytes on either side of a piece that are looked at afterwards
	canary = 0x5A // what they hold
	unset  = 0xA5 // what outputs hold before the call
)

// unsetBytes is a page of them.
var unsetBytes = [4096]byte(bytes.Repeat([]byte{unset}, 4096))

// arena hands out pieces of memory one of whose ends borders on a page that cannot be touched, where the system has such pages. By turns a piece ends
// at the last page, and begins at each offset from the first one within a cache line.
type arena struct {
	slots  []region
	pieces []piece
	turn   int
	seen   [line]bool // offsets that have been
}

// region is memory in whole pages, between guards where there are some.
type region struct{ open, whole []byte }

// piece is where in its slot the kernel may go.
type piece struct{ from, to int }

func (a *arena) begin(turn int) {
	a.pieces = a.pieces[:0]
	a.turn = turn
}

// cut returns n bytes at an address that is a multiple of align.
func (a *arena) cut(n, align int) []byte {
	i := len(a.pieces)
	if i == len(a.slots) {
		a.slots = append(a.slots, region{})
	}
	if need := n + line; len(a.slots[i].open) < need {
		a.slots[i].release()
		a.slots[i] = allocate(2 * need)
	}
	m := a.slots[i].open
	from := len(m) - n
	if at := a.turn / 2 % line &^ (align - 1); a.turn%2 == 0 {
		from = at
		a.seen[at] = true
	}
	p := piece{from, from + n}
	for _, side := range p.sides(m) {
		for j := range side {
			side[j] = canary
		}
	}
	a.pieces = append(a.pieces, p)
	return m[from : from+n : from+n]
}

// sides are the bytes before and behind a piece that are watched.
func (p piece) sides(m []byte) [2][]byte {
	return [2][]byte{m[max(0, p.from-watch):p.from], m[p.to:min(len(m), p.to+watch)]}
}

// trespassed says where something was written outside the pieces.
func (a *arena) trespassed() string {
	for i, p := range a.pieces {
		for k, side := range p.sides(a.slots[i].open) {
			for j, b := range side {
				if b != canary {
					return fmt.Sprintf("wrote %s piece %d of its memory, byte %d", [2]string{"before", "behind"}[k], i, j)
				}
			}
		}
	}
	return ""
}

func (a *arena) free() {
	for _, m := range a.slots {
		m.release()
	}
	a.slots = nil
}

// output is memory for n values that a kernel writes. It holds the same bytes for every arm, so that what is left unwritten can be compared too.
func output[E any](c *call, n int) []E {
	v := room[E](c, n)
	b := raw(v)
	for done := 0; done < len(b); { // by copies, which are faster than a loop
		done += copy(b[done:], unsetBytes[:])
	}
	return v
}

// room is memory for n values.
func room[E any](c *call, n int) []E {
	var e E
	b := c.memory.cut(n*int(unsafe.Sizeof(e)), int(unsafe.Alignof(e)))
	return unsafe.Slice((*E)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// raw is the memory of v.
func raw[E any](v []E) []byte {
	var e E
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(e)))
}
