// SPDX-License-Identifier: Apache-2.0

package quant

import (
	"errors"
	"slices"
	"testing"
)

// FuzzTensor makes tensors of any bytes. What passes its check is unpacked without leaving its memory, has codes of its levels, and is the same in every other format that holds it.
func FuzzTensor(f *testing.F) {
	for format := range uint8(6) {
		f.Add([]byte{0, 1, 255, 1, 0, 255, 27, 200, 9, 0, 0, 0, 0, 0, 0, 0}, []byte{0x5a, 0xff}, []byte{1}, uint8(0), format, uint16(2), uint16(3), uint16(0))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, make([]byte, 40), []byte{8}, uint8(0), uint8(5), uint16(1), uint16(64), uint16(64))
	f.Add([]byte{0xff, 0, 0, 0, 0, 0, 0, 0x80}, make([]byte, 18), []byte{1}, uint8(0), uint8(5), uint16(1), uint16(8), uint16(1)) // a bit beyond the row
	f.Fuzz(func(t *testing.T, data, signs, index []byte, level, format uint8, rows, cols, group uint16) {
		q := &Tensor{Rows: int(rows % 64), Cols: int(cols % 700), Levels: Levels(2 + level%5), Format: Format(format % 7), Group: int(group) - 1}
		if q.Format == Int8 {
			for _, b := range data {
				q.Codes = append(q.Codes, int8(b))
			}
		} else {
			q.Packed = data
		}
		if q.Format == Planes {
			q.Signs, q.Index = slices.Clip(signs), []int64{0}
			for _, b := range index {
				q.Index = append(q.Index, int64(int8(b)))
			}
		}
		if q.Rows > 0 && q.Cols > 0 && q.Group >= 0 {
			q.Scales = slices.Repeat([]float32{0.5}, ScaleCount(q.Rows, q.Cols, q.Group))
			if q.Format != Int8 && q.Format >= Bits2 && q.Format <= Planes { // as many bytes as there should be, for the most part
				if n := q.Rows * q.Format.RowBytes(q.Cols); len(data) > n || len(data) > 0 && len(data)%3 != 0 {
					q.Packed = slices.Repeat(data, n/len(data)+1)[:n:n]
				}
			}
		}
		if q.CheckShape() == nil { // nobody reads beyond it, whatever its planes say
			row := make([]int8, q.Cols)
			for r := range q.Rows {
				q.UnpackRow(row, r)
			}
		}
		if err := q.Check(); err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("an error without a sentinel: %v", err)
			}
			return
		}
		codes, err := q.Convert(nil, Int8)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range []Format{Bits2, Base3, Four5, Planes} {
			same, err := codes.Convert(nil, other)
			if err != nil {
				if !errors.Is(err, ErrFormat) || other != Four5 && q.Levels != Quinary {
					t.Fatalf("%v to %v: %v", q.Levels, other, err)
				}
				continue
			}
			if back, err := same.Convert(nil, Int8); err != nil || !slices.Equal(back.Codes, codes.Codes) {
				t.Fatalf("%v as %v: %v came back as %v, %v", q.Format, other, codes.Codes, back, err)
			}
		}
		values, err := q.Dequantize(nil)
		if err != nil || len(values) != q.Rows*q.Cols {
			t.Fatalf("%d values, %v", len(values), err)
		}
	})
}
