// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/setun-compute/setun/quant"
)

// Tensor reads a quantized tensor. Codes come in the format nearest to their coding: Int8, Bits2, Base3, Four5 and Planes as they are; RANS as Base3 (ternary), Int8 (quinary) or
// Four5 (sparse); Classes as Base3.
// dst is used again where it is large enough, allocated when nil. Errors wrap ErrNotFound or ErrArgument, or are *Error; dst is unspecified then.
func (f *File) Tensor(name string, dst *quant.Tensor) (*quant.Tensor, error) {
	n, t, err := f.find(name, true)
	if err != nil {
		return dst, err
	}
	return f.rows(n, t, 0, t.Rows, dst)
}

// Rows is Tensor for rows first … first+rows−1 alone, as a tensor of so many rows. Only their blocks are read.
func (f *File) Rows(name string, first, rows int, dst *quant.Tensor) (*quant.Tensor, error) {
	n, t, err := f.find(name, true)
	if err != nil {
		return dst, err
	}
	if first < 0 || rows < 1 || rows > t.Rows || first > t.Rows-rows {
		return dst, fmt.Errorf("%s: %d rows from row %d on, of %d, of tensor %q: %w", f.path, rows, first, t.Rows, name, ErrArgument)
	}
	return f.rows(n, t, first, rows, dst)
}

func (f *File) rows(n int, t *Info, first, rows int, dst *quant.Tensor) (*quant.Tensor, error) {
	if e := f.fits(t, t.memory(rows)); e != nil {
		return dst, f.wrong(t, e)
	}
	if t.blocks() > 0 { // before anything is allocated, because an index that is wrong shows cheaply
		if _, e := f.index(n); e != nil {
			return dst, f.wrong(t, e)
		}
	}
	if dst == nil {
		dst = new(quant.Tensor)
	}
	dst.Resize(rows, quant.Options{Levels: t.Levels, Format: t.Coding.format(t.Levels), Cols: t.Cols, Group: t.Group})
	e := f.scales(t, first, dst)
	if e == nil {
		switch t.Coding {
		case Planes:
			e = f.planes(n, t, first, dst)
		case RANS:
			e = f.rans(n, t, first, dst)
		case Classes:
			e = f.classes(n, t, first, dst)
		default:
			e = f.plain(t, first, dst)
		}
	}
	if e != nil {
		return dst, f.wrong(t, e)
	}
	return dst, nil
}

// scales reads those of dst's rows, and refuses what is not finite.
func (f *File) scales(t *Info, first int, dst *quant.Tensor) *Error {
	s := Section{t.Scales.Offset, int64(len(dst.Scales)) * t.ScaleKind.size()}
	if t.Group > 0 {
		s.Offset += t.scaleCount(first) * t.ScaleKind.size()
	}
	data, e := f.bytes(s)
	if e != nil {
		return e
	}
	readFloats(dst.Scales, t.ScaleKind, data)
	if i := slices.IndexFunc(dst.Scales, notFinite); i >= 0 {
		return fail(ErrFormat, s.Offset+int64(i)*t.ScaleKind.size(), "a scale is %v", dst.Scales[i])
	}
	return nil
}

// plain copies rows of the codings that lie in the file as in memory.
func (f *File) plain(t *Info, first int, dst *quant.Tensor) *Error {
	data, e := f.plainBytes(t, first, dst.Rows)
	if e != nil {
		return e
	}
	if dst.Format == quant.Int8 {
		for i, b := range data {
			dst.Codes[i] = int8(b)
		}
	} else {
		copy(dst.Packed, data)
	}
	return nil
}

// plainBytes returns rows as they are in the file, after a look at their codes.
func (f *File) plainBytes(t *Info, first, rows int) ([]byte, *Error) {
	s := Section{t.Codes.Offset + int64(first)*t.rowBytes(), int64(rows) * t.rowBytes()}
	data, e := f.bytes(s)
	if e != nil {
		return nil, e
	}
	bad := -1
	if t.Coding == Int8 {
		bad = badInt8(asInt8(data), t.Levels)
	} else {
		bad = badPacked(data, t.Coding.format(t.Levels))
	}
	if bad >= 0 {
		return nil, fail(ErrFormat, s.Offset+int64(bad), "byte %#02x holds no %v codes", data[bad], t.Levels)
	}
	return data, nil
}

func asInt8(data []byte) []int8 {
	return unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(data))), len(data))
}

// planes decodes rows, block by block.
func (f *File) planes(n int, t *Info, first int, dst *quant.Tensor) *Error {
	index, e := f.index(n)
	if e != nil {
		return e
	}
	per := t.blockRows()
	bytes, some := quant.Planes.RowBytes(t.Cols), (t.Cols+7)/8
	for r := 0; r < dst.Rows; {
		block := (first + r) / per
		begin := block * per // its first row
		s := Section{index.begins[block], index.begins[block+1] - index.begins[block]}
		data, e := f.bytes(s)
		if e != nil {
			return e
		}
		mask, signs, wrong, at := planesBlock(data, min(per, t.Rows-begin)*t.Cols)
		if wrong != "" {
			return fail(ErrFormat, s.Offset+int64(at), "block %d: %s", block, wrong)
		}
		sign := onesUpTo(mask, (first+r-begin)*t.Cols)
		for ; r < dst.Rows && first+r < begin+per; r++ {
			row := dst.Packed[r*bytes:][:bytes]
			clear(row[some:])
			copyBits(row, mask, (first+r-begin)*t.Cols, t.Cols)
			count := ones(row)
			dst.Index[r] = int64(len(dst.Signs))
			at := len(dst.Signs)
			dst.Signs = slices.Grow(dst.Signs, (count+7)/8+quant.SignPadding(dst.Cols))[:at+(count+7)/8]
			if count > 0 {
				copyBits(dst.Signs[at:], signs, sign, count)
			}
			sign += count
		}
	}
	dst.Index[dst.Rows] = int64(len(dst.Signs))
	dst.Signs = append(dst.Signs, make([]byte, quant.SignPadding(dst.Cols))...)
	return nil
}

// rans decodes rows.
func (f *File) rans(n int, t *Info, first int, dst *quant.Tensor) *Error {
	w := f.workspace()
	defer f.pool.Put(w)
	if t.Levels == quant.Ternary && t.Pack == 1 { // the symbols are the bytes
		return f.symbols(w, n, t.symbols(first), dst.Packed)
	}
	bytes := dst.Format.RowBytes(t.Cols)
	for r := 0; r < dst.Rows; {
		begin := (first + r) / t.Pack * t.Pack // the first of the rows that are packed together
		rows := min(t.Pack, t.Rows-begin)
		w.row = grown(w.row, int(t.symbols(begin+rows)-t.symbols(begin)))
		if e := f.symbols(w, n, t.symbols(begin), w.row); e != nil {
			return e
		}
		if t.Levels == quant.Sparse {
			symbolsFour5(dst.Packed[r*bytes:][:bytes], w.row, t.Cols)
			r++
			continue
		}
		w.codes = grown(w.codes, rows*t.Cols)
		symbolsCodes(w.codes, w.row, t.Levels)
		for ; r < dst.Rows && first+r < begin+rows; r++ {
			codes := w.codes[(first+r-begin)*t.Cols:][:t.Cols]
			if t.Levels == quant.Quinary {
				copy(dst.Codes[r*t.Cols:], codes)
			} else {
				quant.PackRow(dst.Packed[r*bytes:][:bytes], codes, quant.Base3)
			}
		}
	}
	return nil
}

// Mapped returns a tensor whose codes are the file's own bytes: coded as Int8, Bits2, Base3 or Four5. Only scales take memory. Codes must not be written to, nor used after Close.
// Checksums and codes are checked by this call. Other codings are ErrArgument; use Tensor.
//
// Its slices are the mapping: they must not be written to, so it is no destination for Tensor, Rows or a conversion, and not be used after Close.
func (f *File) Mapped(name string) (*quant.Tensor, error) {
	_, t, err := f.find(name, true)
	if err != nil {
		return nil, err
	}
	if t.blocks() > 0 {
		return nil, fmt.Errorf("%s: tensor %q is coded as %v, which is not what memory holds: %w", f.path, name, t.Coding, ErrArgument)
	}
	if e := f.fits(t, 4*t.scaleCount(t.Rows)); e != nil {
		return nil, f.wrong(t, e)
	}
	q := &quant.Tensor{Rows: t.Rows, Cols: t.Cols, Levels: t.Levels, Format: t.Coding.format(t.Levels), Group: t.Group, Scales: make([]float32, t.scaleCount(t.Rows))}
	e := f.scales(t, 0, q)
	if e != nil {
		return nil, f.wrong(t, e)
	}
	data, e := f.plainBytes(t, 0, t.Rows)
	switch {
	case e != nil:
		return nil, f.wrong(t, e)
	case t.Coding == Int8:
		q.Codes = asInt8(data)
	default:
		q.Packed = data
	}
	return q, nil
}

// Floats reads a tensor of plain values as float32, to dst when it is large enough. Errors wrap ErrNotFound or ErrArgument, or are *Error.
func (f *File) Floats(name string, dst []float32) ([]float32, error) {
	_, t, err := f.find(name, false)
	if err != nil {
		return dst, err
	}
	n := t.Values()
	if e := f.fits(t, 4*n); e != nil {
		return dst, f.wrong(t, e)
	}
	data, e := f.bytes(t.Codes)
	if e != nil {
		return dst, f.wrong(t, e)
	}
	dst = grown(dst, int(n))
	readFloats(dst, t.Kind, data)
	return dst, nil
}

// FloatsMapped returns the values of a tensor of F32 where they lie in the file, not to be written to nor used after Close; ok is false where they cannot be used so: another kind,
// or another byte order.
func (f *File) FloatsMapped(name string) (values []float32, ok bool, err error) {
	_, t, err := f.find(name, false)
	if err != nil || t.Kind != F32 || binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return nil, false, err
	}
	data, e := f.bytes(t.Codes)
	if e != nil {
		return nil, false, f.wrong(t, e)
	}
	if p := unsafe.Pointer(unsafe.SliceData(data)); uintptr(p)%unsafe.Alignof(float32(0)) == 0 && int64(len(data))/4 <= math.MaxInt {
		return unsafe.Slice((*float32)(p), len(data)/4), true, nil
	}
	return nil, false, nil
}
