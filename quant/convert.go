// SPDX-License-Identifier: Apache-2.0

package quant

import "fmt"

// Convert makes dst the same tensor with its codes in another format, and returns it. dst is used again where it is large enough, allocated when nil, and must not be t. Errors wrap ErrFormat: a tensor that does
// not Check, quinary codes in a packed format, Four5 for levels other than Sparse. Exact: codes and scales stay.
func (t *Tensor) Convert(dst *Tensor, f Format) (*Tensor, error) {
	if err := t.Check(); err != nil {
		return dst, err
	}
	dst, err := t.Frame(dst, f)
	if err != nil {
		return dst, err
	}
	row := make([]int8, t.Cols)
	bytes := f.RowBytes(t.Cols)
	for r := range t.Rows {
		switch t.UnpackRow(row, r); f {
		case Int8:
			copy(dst.Codes[r*t.Cols:], row)
		case Planes:
			dst.Index[r] = int64(len(dst.Signs))
			dst.Signs = packPlanes(dst.Packed[r*bytes:][:bytes], dst.Signs, row)
		default:
			PackRow(dst.Packed[r*bytes:][:bytes], row, f)
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
	dst.Rows, dst.Cols, dst.Levels, dst.Format, dst.Group = t.Rows, t.Cols, t.Levels, f, t.Group
	dst.Scales = resized(dst.Scales, len(t.Scales))
	copy(dst.Scales, t.Scales)
	dst.room()
	return dst, nil
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
