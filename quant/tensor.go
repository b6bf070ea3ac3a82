// SPDX-License-Identifier: Apache-2.0

package quant

import (
	"errors"
	"fmt"
	"math"
)

// ErrFormat is returned when a tensor's fields contradict each other.
var ErrFormat = errors.New("quant: inconsistent tensor")

// Tensor is a quantized matrix of Rows×Cols values. It may be used again as the destination of another call, which
// then allocates nothing when it is large enough.
type Tensor struct {
	Rows, Cols int
	Levels     Levels
	Format     Format
	Group      int       // values that share a scale, within a row; 0: one scale for all
	Codes      []int8    // Rows*Cols codes when Format is Int8, else empty
	Packed     []byte    // Rows*Format.RowBytes(Cols) bytes when Format is packed, else empty
	Signs      []byte    // of Planes: those of each row from a byte on, and SignPadding(Cols) bytes; else empty
	Index      []int64   // of Planes: Rows+1 positions in Signs, where rows begin and the last one ends; else empty
	Scales     []float32 // 1, or Rows*⌈Cols/Group⌉; the value of code c is c·scale, or c·scale/2 for Quinary
}

// ScaleCount returns how many scales a rows×cols tensor has.
func ScaleCount(rows, cols, group int) int {
	if group <= 0 {
		return 1
	}
	return rows * ((cols-1)/group + 1)
}

// Resize gives the tensor the shape and the storage that opts ask for, keeping memory that is large enough. The contents are
// unspecified afterwards. opts must have its defaults filled in and have been checked.
func (t *Tensor) Resize(rows int, opts Options) {
	t.Rows, t.Cols = rows, opts.Cols
	t.Levels, t.Format, t.Group = opts.Levels, opts.Format, opts.Group
	t.Scales = resized(t.Scales, ScaleCount(rows, opts.Cols, opts.Group))
	t.room()
}

// room gives codes, planes and index the lengths that shape and format ask for; there are no signs yet.
func (t *Tensor) room() {
	t.Codes, t.Packed, t.Signs, t.Index = t.Codes[:0], t.Packed[:0], t.Signs[:0], t.Index[:0]
	if t.Format == Int8 {
		t.Codes = resized(t.Codes, t.Rows*t.Cols)
		return
	}
	t.Packed = resized(t.Packed, t.Rows*t.Format.RowBytes(t.Cols))
	if t.Format == Planes {
		t.Index = resized(t.Index, t.Rows+1)
	}
}

func resized[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	return s[:n]
}

// Check returns an error that wraps ErrFormat unless all fields fit together. It reads all codes of Int8 and Bits2, which must be of the levels (Base3 and Four5 hold no others), and of Planes it counts the bits of the first plane.
func (t *Tensor) Check() error {
	if err := t.CheckShape(); err != nil {
		return err
	}
	switch t.Format {
	case Planes:
		return t.checkPlanes()
	case Bits2:
		return t.checkPairs()
	case Int8:
		most := int8(1)
		if t.Levels == Quinary {
			most = 2
		}
		for i, c := range t.Codes {
			if c > most || c < -most {
				return fmt.Errorf("%w: code %d = %d is not %v", ErrFormat, i, c, t.Levels)
			}
		}
	}
	return nil
}

// CheckShape is Check without reading codes, but for the index of planes: whoever multiplies by a tensor that passes reads nothing beyond its memory, whatever its planes say.
func (t *Tensor) CheckShape() error {
	if t.Rows < 1 || t.Cols < 1 || int64(t.Rows) > min(maxCodes, math.MaxInt)/int64(t.Cols) || t.Group < 0 || t.Group > t.Cols {
		return fmt.Errorf("%w: %d×%d, group %d", ErrFormat, t.Rows, t.Cols, t.Group)
	}
	if err := fits(t.Levels, t.Format); err != nil {
		return err
	}
	codes, packed := t.Rows*t.Cols, 0
	if t.Format != Int8 {
		codes, packed = 0, t.Rows*t.Format.RowBytes(t.Cols)
	}
	switch {
	case len(t.Codes) != codes || len(t.Packed) != packed:
		return fmt.Errorf("%w: %d codes and %d packed bytes for %d×%d as %v", ErrFormat, len(t.Codes), len(t.Packed), t.Rows, t.Cols, t.Format)
	case len(t.Scales) != ScaleCount(t.Rows, t.Cols, t.Group):
		return fmt.Errorf("%w: %d scales for %d×%d in groups of %d", ErrFormat, len(t.Scales), t.Rows, t.Cols, t.Group)
	}
	if t.Format == Planes {
		return t.checkIndex()
	}
	return nil
}

// maxCodes bounds a tensor: more cannot be in memory.
const maxCodes int64 = 1 << 45

// Bytes returns what codes and scales take in memory.
func (t *Tensor) Bytes() int {
	return len(t.Codes) + len(t.Packed) + len(t.Signs) + 8*len(t.Index) + 4*len(t.Scales)
}

// unit returns the value of code 1 at (row, col).
func (t *Tensor) unit(row, col int) float32 {
	s := t.Scales[0]
	if t.Group > 0 {
		s = t.Scales[row*((t.Cols-1)/t.Group+1)+col/t.Group]
	}
	if t.Levels == Quinary {
		s /= 2
	}
	return s
}

// Dequantize writes the Rows*Cols values that the tensor stands for to dst, allocating it when nil, and returns it.
func (t *Tensor) Dequantize(dst []float32) ([]float32, error) {
	if err := t.Check(); err != nil {
		return dst, err
	}
	n := t.Rows * t.Cols
	if dst == nil {
		dst = make([]float32, n)
	}
	if len(dst) != n {
		return dst, fmt.Errorf("%w: destination of %d for %d values", ErrFormat, len(dst), n)
	}
	row := make([]int8, t.Cols)
	for r := range t.Rows {
		t.UnpackRow(row, r)
		out := dst[r*t.Cols:][:t.Cols]
		for c := 0; c < t.Cols; {
			end := t.Cols
			if t.Group > 0 {
				end = min(end, c-c%t.Group+t.Group)
			}
			for unit := t.unit(r, c); c < end; c++ {
				out[c] = unit * float32(row[c])
			}
		}
	}
	return dst, nil
}
