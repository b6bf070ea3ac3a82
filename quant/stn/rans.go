// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"encoding/binary"
	"math/bits"
)

// lanes is how many coders take turns within a block: symbol i belongs to lane i mod lanes. Each waits for its own last step only, so a processor works on all of them at once.
const lanes = 4

const (
	lower      = 1 << 16 // states lie in [lower, lower << 16), so that one step of 16 bits is always enough
	stateBytes = 4 * lanes
)

// encoder holds what a lane needs to take up each symbol, by the symbol's byte.
type encoder [256]struct {
	reciprocal uint64 // ⌈2^64/frequency⌉: the high half of its product with a state below 2^32 is the quotient (Granlund and Montgomery 1994)
	frequency  uint32
	complement uint32 // total − frequency
	bias       uint32 // sum of the frequencies of smaller symbols
}

func (e *encoder) set(m model) {
	*e = encoder{}
	start := uint32(0)
	for v, f := range m.freq {
		if f == 0 {
			continue
		}
		s := &e[symbolByte(m.levels, v)]
		s.frequency, s.complement, s.bias = f, total-f, start
		if f == 1 { // 2^64 does not fit: the quotient comes out one too small, and the bias makes up for it
			s.reciprocal, s.bias = ^uint64(0), start+total-1
		} else {
			s.reciprocal = ^uint64(0)/uint64(f) + 1
		}
		start += f
	}
}

// block appends the coded symbols to dst. scratch has stateBytes + 2·len(symbols) bytes at least.
func (e *encoder) block(dst, symbols, scratch []byte) []byte {
	return encodeRuns(dst, []encoderRun{{e, symbols}}, scratch)
}

// encoderRun is a part of a block whose symbols have one model.
type encoderRun struct {
	encoder *encoder
	symbols []byte
}

// encodeRuns appends a block of runs to dst. scratch has stateBytes and 2 bytes a symbol at least. The last symbol is taken up first, so that the first one comes out first.
func encodeRuns(dst []byte, runs []encoderRun, scratch []byte) []byte {
	x := [lanes]uint32{lower, lower, lower, lower}
	left := 0 // symbols, of all runs
	for i := range runs {
		left += len(runs[i].symbols)
	}
	at := len(scratch)
	for r := len(runs) - 1; r >= 0; r-- {
		e, symbols := runs[r].encoder, runs[r].symbols
		i := len(symbols)
		for ; i > 0 && left%lanes != 0; i, left = i-1, left-1 {
			lane := (left - 1) % lanes
			x[lane], at = e.step(x[lane], symbols[i-1], scratch, at)
		}
		x0, x1, x2, x3 := x[0], x[1], x[2], x[3]
		for ; i >= lanes; i, left = i-lanes, left-lanes {
			s := (*[lanes]byte)(symbols[i-lanes : i])
			x3, at = e.step(x3, s[3], scratch, at)
			x2, at = e.step(x2, s[2], scratch, at)
			x1, at = e.step(x1, s[1], scratch, at)
			x0, at = e.step(x0, s[0], scratch, at)
		}
		x = [lanes]uint32{x0, x1, x2, x3}
		for ; i > 0; i, left = i-1, left-1 {
			lane := (left - 1) % lanes
			x[lane], at = e.step(x[lane], symbols[i-1], scratch, at)
		}
	}
	for _, v := range x {
		dst = binary.LittleEndian.AppendUint32(dst, v)
	}
	return append(dst, scratch[at:]...)
}

// step takes up a symbol: x ← ⌊x/f⌋·total + x mod f + start, after the low 16 bits went out if x would leave its range. The word is written in any case, because guessing whether
// it is needed fails half of the time.
func (e *encoder) step(x uint32, symbol byte, scratch []byte, at int) (uint32, int) {
	s := &e[symbol]
	binary.LittleEndian.PutUint16(scratch[at-2:], uint16(x))
	full := int(uint64(int64(s.frequency)-1-int64(x>>(32-scaleBits))) >> 63) // 1 where x ≥ f·2^(32−scaleBits)
	x >>= uint(16*full) & 31
	quotient, _ := bits.Mul64(uint64(x), s.reciprocal)
	return x + s.bias + uint32(quotient)*s.complement, at - 2*full
}

// decoder holds what comes out of each state, as symbol bytes.
type decoder struct {
	slots   [total + 8]byte // eight more, so that they can be filled by eights
	symbols [256]uint64     // frequency << 32 | sum of the frequencies of smaller symbols
}

func (d *decoder) set(m model) {
	start := 0
	for v, f := range m.freq {
		if f == 0 {
			continue
		}
		b := symbolByte(m.levels, v)
		d.symbols[b] = uint64(f)<<32 | uint64(start)
		eight, end := uint64(b)*0x0101010101010101, start+int(f)
		for ; start < end; start += 8 {
			binary.LittleEndian.PutUint64(d.slots[start:], eight)
		}
		start = end // what went beyond belongs to the next symbol
	}
}

// block fills dst with the symbols of a block, which must use up data and end where its encoder began. What is wrong comes as a text, with the byte of data at fault.
func (d *decoder) block(dst, data []byte) (wrong string, at int) {
	var s states
	if wrong, at = s.begin(data); wrong != "" {
		return wrong, at
	}
	if wrong = s.run(d, dst); wrong != "" {
		return wrong, len(data)
	}
	wrong, left := s.end()
	return wrong, len(data) - left
}

// states are those of a block that is being decoded: x[0] has the next symbol.
type states struct {
	x     [lanes]uint32
	words []byte
}

// begin reads the states that a block begins with. What is wrong comes as a text, with the byte of data at fault.
func (st *states) begin(data []byte) (wrong string, at int) {
	if len(data) < stateBytes || len(data)%2 != 0 {
		return "a block that is too short, or of odd length", 0
	}
	for i := range st.x {
		if st.x[i] = binary.LittleEndian.Uint32(data[4*i:]); st.x[i] < lower {
			return "a state below 65536", 4 * i
		}
	}
	st.words = data[stateBytes:]
	return "", 0
}

// run fills dst with the next symbols of the block, all of one model. What is wrong comes as a text, and then is at the end of the block.
func (st *states) run(d *decoder, dst []byte) (wrong string) {
	words := st.words
	x0, x1, x2, x3 := st.x[0], st.x[1], st.x[2], st.x[3]
	for len(dst) >= lanes && len(words) >= 16 {
		w, s := (*[16]byte)(words), (*[lanes]byte)(dst)
		var used uint64 // bytes; the mask tells the compiler that it stays below 8
		x0, used, s[0] = d.step(x0, used, w)
		x1, used, s[1] = d.step(x1, used, w)
		x2, used, s[2] = d.step(x2, used, w)
		x3, used, s[3] = d.step(x3, used, w)
		words, dst = words[used:], dst[lanes:]
	}
	st.x, st.words = [lanes]uint32{x0, x1, x2, x3}, words
	for i := range dst { // the last ones, or all of a block with next to no words
		if dst[i], wrong = st.next(d, i%lanes); wrong != "" {
			return wrong
		}
	}
	st.turn(len(dst))
	return ""
}

// scatter is run with a place in dst for each symbol.
func (st *states) scatter(d *decoder, dst []byte, places []uint32) (wrong string) {
	words := st.words
	x0, x1, x2, x3 := st.x[0], st.x[1], st.x[2], st.x[3]
	for len(places) >= lanes && len(words) >= 16 {
		w, p := (*[16]byte)(words), (*[lanes]uint32)(places)
		var used uint64 // as in run
		x0, used, dst[p[0]] = d.step(x0, used, w)
		x1, used, dst[p[1]] = d.step(x1, used, w)
		x2, used, dst[p[2]] = d.step(x2, used, w)
		x3, used, dst[p[3]] = d.step(x3, used, w)
		words, places = words[used:], places[lanes:]
	}
	st.x, st.words = [lanes]uint32{x0, x1, x2, x3}, words
	for i, place := range places {
		if dst[place], wrong = st.next(d, i%lanes); wrong != "" {
			return wrong
		}
	}
	st.turn(len(places))
	return ""
}

// next takes one symbol out of a lane, and a word from the block only where it is needed.
func (st *states) next(d *decoder, lane int) (symbol byte, wrong string) {
	v := st.x[lane]
	slot := v & (total - 1)
	symbol = d.slots[slot]
	e := d.symbols[symbol]
	v = uint32(e>>32)*(v>>scaleBits) + slot - uint32(e)
	if v < lower {
		if len(st.words) < 2 {
			return 0, "the words of a block end early"
		}
		v = v<<16 | uint32(binary.LittleEndian.Uint16(st.words))
		st.words = st.words[2:]
	}
	st.x[lane] = v
	return symbol, ""
}

// turn makes the lane after n symbols the first one.
func (st *states) turn(n int) {
	x := st.x
	for i := range x {
		st.x[i] = x[(i+n)%lanes]
	}
}

// end checks that all is used up. What is wrong comes as a text, with how many bytes of the block are left.
func (st *states) end() (wrong string, left int) {
	switch {
	case len(st.words) > 0:
		return "a block with words left over", len(st.words)
	case st.x != [lanes]uint32{lower, lower, lower, lower}:
		return "a block that does not end in its first state", 0
	}
	return "", 0
}

// step gives one symbol back: x ← f·⌊x/total⌋ + x mod total − start, and 16 more bits if x fell below its range. Both outcomes are computed, because guessing which one it is fails
// half of the time.
func (d *decoder) step(x uint32, used uint64, words *[16]byte) (uint32, uint64, byte) {
	slot := x & (total - 1)
	symbol := d.slots[slot]
	e := d.symbols[symbol]
	x = uint32(e>>32)*(x>>scaleBits) + slot - uint32(e)
	more := x<<16 | uint32(binary.LittleEndian.Uint16(words[used&7:]))
	below := (uint64(x) - lower) >> 63
	if x < lower {
		x = more
	}
	return x, used + 2*below, symbol
}
