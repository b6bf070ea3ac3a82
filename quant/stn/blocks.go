// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// blocks is a tensor's index, read: where each block lies, and the models of segments.
type blocks struct {
	known   bool
	err     *Error
	begins  []int64 // in the file, of each block, and where the last one ends
	models  []model
	classes []classModel // of segments of Classes
}

// workspace is what one call needs to decode; it is used again.
type workspace struct {
	decoder decoder
	tensor  int // whose model the decoder has; −1: none
	segment int
	symbols []byte // of a block
	block   int    // which one; −1: none
	row     []byte // symbols of a packed row
	codes   []int8
	classes classWorkspace
}

func (f *File) workspace() *workspace {
	w, ok := f.pool.Get().(*workspace)
	if !ok {
		w = new(workspace)
	}
	w.tensor, w.segment, w.block = -1, -1, -1
	return w
}

// index returns the index of tensor n, which is read once.
func (f *File) index(n int) (*blocks, *Error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	b := &f.blocks[n]
	if !b.known {
		b.known = true
		b.err = f.readIndex(b, &f.tensors[n])
	}
	if b.err != nil {
		e := *b.err // callers complete it
		return nil, &e
	}
	return b, nil
}

func (f *File) readIndex(b *blocks, t *Info) *Error {
	data, e := f.bytes(t.Index)
	if e != nil {
		return e
	}
	count := int(t.blocks()) // that many fit the section: checkSizes
	b.begins = make([]int64, count+1)
	at := t.Codes.Offset
	for i := range count {
		b.begins[i] = at
		at += int64(binary.LittleEndian.Uint32(data[4*i:]))
	}
	b.begins[count] = at
	if at != t.Codes.end() {
		return fail(ErrFormat, t.Index.Offset, "the blocks end at byte %d, their section at %d", at, t.Codes.end())
	}
	data = data[4*count:]
	if t.Coding == RANS {
		for s := range (count + segmentBlocks - 1) / segmentBlocks {
			m, rest, wrong := parseModel(t.Levels, data)
			if wrong != "" {
				return fail(ErrFormat, t.Index.end()-int64(len(data)), "segment %d: %s", s, wrong)
			}
			data = rest
			b.models = append(b.models, m)
		}
	}
	if t.Coding == Classes {
		for s := range t.classSegments() {
			m, rest, wrong := parseClasses(data, t.Cols)
			if wrong != "" {
				return fail(ErrFormat, t.Index.end()-int64(len(data)), "segment %d: %s", s, wrong)
			}
			data = rest
			b.classes = append(b.classes, m)
		}
	}
	if len(data) > 0 {
		return fail(ErrFormat, t.Index.end()-int64(len(data)), "%d bytes follow the index", len(data))
	}
	return nil
}

// decode fills dst with the symbols of a block of RANS.
func (f *File) decode(w *workspace, n, block int, dst []byte) *Error {
	b, e := f.index(n)
	if e != nil {
		return e
	}
	if w.tensor != n || w.segment != block/segmentBlocks {
		w.tensor, w.segment = n, block/segmentBlocks
		w.decoder.set(b.models[w.segment])
	}
	s := Section{b.begins[block], b.begins[block+1] - b.begins[block]}
	data, e := f.bytes(s)
	if e != nil {
		return e
	}
	if wrong, at := w.decoder.block(dst, data); wrong != "" {
		return fail(ErrFormat, s.Offset+int64(at), "block %d: %s", block, wrong)
	}
	return nil
}

// symbols fills dst with the symbols of tensor n from one on. A block that is not wanted whole stays in the workspace.
func (f *File) symbols(w *workspace, n int, from int64, dst []byte) *Error {
	t := &f.tensors[n]
	all := t.symbols(t.Rows)
	for len(dst) > 0 {
		block, at := int(from/blockSymbols), int(from%blockSymbols)
		size := int(min(blockSymbols, all-int64(block)*blockSymbols))
		if at == 0 && len(dst) >= size && block != w.block {
			if e := f.decode(w, n, block, dst[:size]); e != nil {
				return e
			}
			from, dst = from+int64(size), dst[size:]
			continue
		}
		if block != w.block {
			w.block = -1
			w.symbols = grown(w.symbols, size)
			if e := f.decode(w, n, block, w.symbols); e != nil {
				return e
			}
			w.block = block
		}
		k := copy(dst, w.symbols[at:])
		from, dst = from+int64(k), dst[k:]
	}
	return nil
}

// Blocks returns how many blocks a tensor has that is coded as RANS, each of 32,768 symbols but for the last one. Errors wrap ErrNotFound or ErrArgument.
func (f *File) Blocks(name string) (int, error) {
	_, t, err := f.find(name, true)
	if err == nil && t.Coding != RANS {
		err = fmt.Errorf("%s: tensor %q is coded as %v: %w", f.path, name, t.Coding, ErrArgument)
	}
	if err != nil {
		return 0, err
	}
	return int(t.blocks()), nil
}

// Block decodes one block of a tensor that is coded as RANS to dst, which is used again when it is large enough, and returns its symbols: bytes of base 3 (ternary), 25·a + 5·b + c
// of three codes plus 2 (quinary), or
// 2·number + sign of four codes (sparse). docs/format-stn.md says which codes they are. Errors wrap ErrNotFound or ErrArgument, or are *Error.
func (f *File) Block(name string, block int, dst []byte) ([]byte, error) {
	count, err := f.Blocks(name)
	if err != nil {
		return dst, err
	}
	if block < 0 || block >= count {
		return dst, fmt.Errorf("%s: block %d of %d of tensor %q: %w", f.path, block, count, name, ErrArgument)
	}
	n, t, _ := f.find(name, true)
	size := int(min(blockSymbols, t.symbols(t.Rows)-int64(block)*blockSymbols))
	dst = slices.Grow(dst[:0], size)[:size]
	w := f.workspace()
	defer f.pool.Put(w)
	if e := f.decode(w, n, block, dst); e != nil {
		return dst, f.wrong(t, e)
	}
	return dst, nil
}
