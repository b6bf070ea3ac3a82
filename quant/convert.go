// SPDX-License-Identifier: Apache-2.0

package quant

import (
	"fmt"
	"slices"
	"unsafe"
)

// Convert makes dst the same tensor with its codes in another format, and returns it. dst is used again where it is large enough, allocated when nil, and must not share memory with t. Errors wrap ErrFormat: a tensor that
// does not Check, quinary codes in a packed format, Four5 for levels other than Sparse or for codes that are not (dst is unspecified then). Exact: codes and scales stay.
func (t *Tensor) Convert(dst *Tensor, f Format) (*Tensor, error) {
	if err := t.Check(); err != nil {
		return dst, err
	}
	dst, err := t.Frame(dst, f)
	if err != nil {
		return dst, err
	}
	row, back := make([]int8, t.Cols), []int8(nil)
	bytes := f.RowBytes(t.Cols)
	for r := range t.Rows {
		switch t.UnpackRow(row, r); f {
		case Int8:
			copy(dst.Codes[r*t.Cols:], row)
		case Planes:
			dst.Index[r] = int64(len(dst.Signs))
			dst.Signs = packPlanes(dst.Packed[r*bytes:][:bytes], dst.Signs, row)
		default:
			packed := dst.Packed[r*bytes:][:bytes]
			if PackRow(packed, row, f); f == Four5 && t.Format != Four5 {
				if back = resized(back, t.Cols); !sameCodes(back, packed, row) {
					return dst, fmt.Errorf("%w: row %d has four codes of which not exactly one is 0", ErrFormat, r)
				}
			}
		}
	}
	if f == Planes {
		dst.Index[t.Rows] = int64(len(dst.Signs))
		dst.Signs = append(dst.Signs, make([]byte, SignPadding(t.Cols))...)
	}
	return dst, nil
}

// Frame gives dst the shape, the levels and the scales of t, and room for codes in a format, whose contents are unspecified. dst is allocated when nil, and returned. Errors wrap ErrFormat: levels that the format does not hold,
// or a dst that is t.
func (t *Tensor) Frame(dst *Tensor, f Format) (*Tensor, error) {
	if err := fits(t.Levels, f); err != nil {
		return dst, err
	}
	if dst == t {
		return dst, fmt.Errorf("%w: a tensor cannot become another format of itself", ErrFormat)
	}
	if dst == nil {
		dst = new(Tensor)
	}
	if dst.shares(t) {
		return dst, fmt.Errorf("%w: the destination's memory is that of the tensor itself", ErrFormat)
	}
	dst.Rows, dst.Cols, dst.Levels, dst.Format, dst.Group = t.Rows, t.Cols, t.Levels, f, t.Group
	dst.Scales = resized(dst.Scales, len(t.Scales))
	copy(dst.Scales, t.Scales)
	dst.room()
	return dst, nil
}

// sameCodes says whether codes come back from their packing.
func sameCodes(back []int8, packed []byte, codes []int8) bool {
	UnpackRow(back, packed, Four5)
	return slices.Equal(back, codes)
}

// shares says whether two tensors have memory in common, up to the capacity of their slices.
func (t *Tensor) shares(u *Tensor) bool {
	a, b := t.memory(), u.memory()
	for _, x := range a {
		for _, y := range b {
			if x[0] < y[1] && y[0] < x[1] {
				return true
			}
		}
	}
	return false
}

// memory is where the slices begin and end.
func (t *Tensor) memory() [5][2]uintptr {
	return [5][2]uintptr{reach(t.Codes), reach(t.Packed), reach(t.Signs), reach(t.Index), reach(t.Scales)}
}

func reach[E any](s []E) [2]uintptr {
	var e E
	at := uintptr(unsafe.Pointer(unsafe.SliceData(s)))
	return [2]uintptr{at, at + uintptr(cap(s))*unsafe.Sizeof(e)}
}

// fits says whether a format can hold the codes of such levels.
func fits(l Levels, f Format) error {
	switch {
	case f < Int8 || f > Planes, l != Ternary && l != Quinary && l != Sparse:
		return fmt.Errorf("%w: levels %d, format %d", ErrFormat, l, f)
	case l == Quinary && f != Int8, l != Sparse && f == Four5:
		return fmt.Errorf("%w: %v codes as %v", ErrFormat, l, f)
	}
	return nil
}
