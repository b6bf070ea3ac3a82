// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"fmt"

	"github.com/setun-compute/setun/quant"
)

// Floats reads tensor i whole: Rows·Cols values, row after row. dst is used when it is large enough, else memory is allocated.
//
// The values are those of ggml's reference code, bit by bit: a binary16 scale, widened, times the code. That includes what an encoder never writes: digit 3 of
// TQ2_0 is twice the scale. See CheckTernary. Errors: ErrUnsupported for a type that is not Readable; ErrRange; os.ErrClosed.
func (f *File) Floats(i int, dst []float32) ([]float32, error) {
	t, _, err := f.tensor(i)
	if err != nil {
		return nil, err
	}
	return f.Rows(i, 0, t.Rows(), dst)
}

// Rows reads n rows of tensor i, from row first on, as Floats does. Only the pages of the file that hold them are touched.
func (f *File) Rows(i, first, n int, dst []float32) ([]float32, error) {
	t, data, err := f.rows(i, first, n)
	if err != nil {
		return nil, err
	}
	if !t.Type.Readable() {
		return nil, f.fail(t, ErrUnsupported, t.Offset, "its type is %v; F32, F16, BF16, Q8_0, TQ1_0 and TQ2_0 are read", t.Type)
	}
	dst = resized(dst, n*t.Cols())
	decode(t.Type, dst, data)
	return dst, nil
}

// rows returns the bytes of some rows.
func (f *File) rows(i, first, n int) (*Info, []byte, error) {
	t, data, err := f.tensor(i)
	if err != nil {
		return nil, nil, err
	}
	if rows := t.Rows(); first < 0 || n < 0 || first > rows || n > rows-first {
		return nil, nil, fmt.Errorf("%s: tensor %q: %d rows from row %d on; it has %d: %w", f.path, t.Name, n, first, rows, ErrRange)
	}
	size := t.rowBytes()
	return t, data[first*size:][:n*size], nil
}

// Ternary reads a TQ1_0 or TQ2_0 tensor as codes and scales, without rounding anything: q becomes a ternary Int8 tensor of Rows×Cols with a scale for each group of
// 256, whose memory is used again where it is large enough. It refuses what CheckTernary refuses. Other types are ErrUnsupported.
func (f *File) Ternary(i int, q *quant.Tensor) error {
	t, _, err := f.tensor(i)
	if err != nil {
		return err
	}
	codes, scales, err := f.TernaryRows(i, 0, t.Rows(), q.Codes, q.Scales)
	if err != nil {
		return err
	}
	*q = quant.Tensor{Rows: t.Rows(), Cols: t.Cols(), Levels: quant.Ternary, Format: quant.Int8, Group: Block, Codes: codes, Packed: q.Packed[:0], Scales: scales}
	return nil
}

// TernaryRows reads n rows of tensor i, from row first on, as Ternary does: n·Cols codes in -1, 0, 1, and n·Cols/256 scales.
func (f *File) TernaryRows(i, first, n int, codes []int8, scales []float32) ([]int8, []float32, error) {
	var block [Block]int8
	data, size, err := f.ternary(i, first, n)
	if err != nil {
		return nil, nil, err
	}
	t := &f.Tensors[i]
	codes, scales = resized(codes, n*t.Cols()), resized(scales, n*t.Cols()/Block)
	for k := range scales {
		b := data[k*size:][:size]
		if at, detail := checkTernary(t.Type, b); at >= 0 {
			return nil, nil, f.fail(t, ErrFormat, t.Offset+int64(first)*int64(t.rowBytes())+int64(k*size+at), "%s", detail)
		}
		scales[k] = decodeTernary(t.Type, b, &block)
		copy(codes[k*Block:], block[:])
	}
	return codes, scales, nil
}

// ternary returns the bytes of some rows of a ternary tensor, and the bytes of a block.
func (f *File) ternary(i, first, n int) (data []byte, size int, err error) {
	t, data, err := f.rows(i, first, n)
	if err != nil {
		return nil, 0, err
	}
	if !t.Type.Ternary() {
		return nil, 0, f.fail(t, ErrUnsupported, t.Offset, "its type is %v; TQ1_0 and TQ2_0 have ternary codes", t.Type)
	}
	_, size, _ = t.Type.Size()
	return data, size, nil
}

// CheckTernary looks for bytes in a TQ1_0 or TQ2_0 tensor that no encoder writes, though ggml decodes them: the digit 3 of TQ2_0, the 13 bytes of TQ1_0 that no five
// trits make and a fifth trit where there are four, and scales that are infinite or not numbers. The error names the first one's place, and wraps ErrFormat;
// ErrUnsupported for other types.
func (f *File) CheckTernary(i int) error {
	t, _, err := f.tensor(i)
	if err != nil {
		return err
	}
	data, size, err := f.ternary(i, 0, t.Rows())
	if err != nil {
		return err
	}
	for at := 0; at < len(data); at += size {
		if k, detail := checkTernary(t.Type, data[at:][:size]); k >= 0 {
			return f.fail(t, ErrFormat, t.Offset+int64(at+k), "%s", detail)
		}
	}
	return nil
}

func (f *File) fail(t *Info, sentinel error, offset int64, detail string, args ...any) *Error {
	e := fail(sentinel, offset, detail, args...)
	e.Path = f.path
	return e.about(fmt.Sprintf("tensor %q", t.Name))
}

func resized[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	return s[:n]
}
