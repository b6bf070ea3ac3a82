// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/internal/floats"
)

// chunk is how many bytes are encoded before they are written.
const chunk = 1 << 18

// Writer writes a file tensor after tensor, row after row. Any error ends it: the temporary file is removed, what stood at the path before is as it was, and
// all later calls return that error. It must be ended by Close or Abort. It is not for use by several goroutines at once.
type Writer struct {
	path      string
	file      *durable.Draft // nil in tests that write to memory
	out       io.Writer
	tensors   []Info
	alignment int64

	next    int   // the tensor that is being written
	written int64 // bytes of it
	buffer  []byte
	err     error
	ended   bool
}

// RoundHalf rounds a scale to the nearest binary16, ties to even: what WriteTernary accepts. Choose codes after rounding the scale, so that the codes fit the scale that
// is stored. From 65520 on the result is infinite, and 0 up to 2^-25: such scales have no place in these types.
func RoundHalf(x float32) float32 { return floats.Half(floats.ToHalf(x)) }

// Create begins a version 3 file that will hold these keys and tensors, in this order. Of each Info, Name, Dims and Type count. A file's own Keys and Tensors may be
// handed on. The alignment is that of the key general.alignment, 32 without it. The folder is made when it is missing.
//
// Errors: ErrPlan for what Open would refuse; ErrBlock for a row length that the type cannot hold; ErrUnsupported for a type without a known layout; those of the file system.
func Create(path string, keys []KeyValue, tensors []Info) (*Writer, error) {
	return createIn(durable.Files{}, path, keys, tensors)
}

func createIn(files durable.Files, path string, keys []KeyValue, tensors []Info) (*Writer, error) {
	header, laid, alignment, err := plan(keys, tensors)
	if err != nil {
		if e, ok := err.(*Error); ok {
			e.Path = path
		}
		return nil, err
	}
	file, err := files.Create(path)
	if err != nil {
		return nil, fmt.Errorf("save %s: %w", path, err)
	}
	w := &Writer{path: path, file: file, out: file, tensors: laid, alignment: alignment}
	if err := w.put(header); err != nil {
		return nil, err
	}
	return w, nil
}

// put writes bytes as they are.
func (w *Writer) put(b []byte) error {
	if _, err := w.out.Write(b); err != nil {
		return w.stop(fmt.Errorf("save %s: %w", w.path, err))
	}
	return nil
}

// stop ends the writer with an error.
func (w *Writer) stop(err error) error {
	w.err, w.ended = err, true
	if w.file != nil {
		w.file.Discard()
	}
	return err
}

// refuse ends the writer with an error about the tensor that is being written, if there is one.
func (w *Writer) refuse(sentinel error, detail string, args ...any) error {
	e := fail(sentinel, int64(0), detail, args...)
	e.Path = w.path
	if w.next < len(w.tensors) {
		t := &w.tensors[w.next]
		e.Offset = t.Offset + w.written
		e.Subject = fmt.Sprintf("tensor %q", t.Name)
	} else if n := len(w.tensors); n > 0 {
		e.Offset = pad(w.tensors[n-1].Offset+w.tensors[n-1].Size, w.alignment)
	}
	return w.stop(e)
}

// open returns the tensor that is being written and how many of its rows are still to come; no tensor, and perhaps no error, when n elements to write are none.
func (w *Writer) open(n int, what string) (t *Info, rows int, err error) {
	switch {
	case w.err != nil:
		return nil, 0, w.err
	case w.ended:
		return nil, 0, fmt.Errorf("save %s: %w", w.path, os.ErrClosed)
	case n == 0:
		return nil, 0, nil
	case w.next == len(w.tensors):
		return nil, 0, w.refuse(ErrPlan, "%d %s after the last tensor", n, what)
	}
	t = &w.tensors[w.next]
	return t, int((t.Size - w.written) / int64(t.rowBytes())), nil
}

// rows checks that n elements are whole rows, no more than are left.
func (w *Writer) rows(t *Info, n, cols, left int, what string) error {
	if n%cols != 0 || n/cols > left {
		return w.refuse(ErrPlan, "%d %s; whole rows of %d are taken, and %d rows are left", n, what, cols, left)
	}
	return nil
}

// accept counts n bytes that were appended to the buffer, and writes the buffer when it is full. Padding follows a tensor that is complete.
func (w *Writer) accept(n int) error {
	w.written += int64(n)
	if t := &w.tensors[w.next]; w.written == t.Size {
		w.buffer = append(w.buffer, make([]byte, pad(t.Size, w.alignment)-t.Size)...)
		w.next++
		w.written = 0
	}
	if len(w.buffer) < chunk {
		return nil
	}
	err := w.put(w.buffer)
	w.buffer = w.buffer[:0]
	return err
}

// WriteFloats writes the next rows of an F32, F16 or BF16 tensor, rounding to nearest even. Several calls may make up a tensor; no call reaches over its end.
// A finite value that F16 or BF16 would turn into infinity is ErrPlan, as are values that are not whole rows.
func (w *Writer) WriteFloats(rows []float32) error {
	t, left, err := w.open(len(rows), "values")
	if err != nil || t == nil {
		return err
	}
	if t.Type != F32 && t.Type != F16 && t.Type != BF16 {
		return w.refuse(ErrPlan, "float values for a tensor of type %v; F32, F16 and BF16 are written from floats", t.Type)
	}
	if err := w.rows(t, len(rows), t.Cols(), left, "values"); err != nil {
		return err
	}
	_, size, _ := t.Type.Size()
	for i := 0; i < len(rows); i += chunk / size {
		part := rows[i:min(i+chunk/size, len(rows))]
		if k := w.encode(t.Type, part); k >= 0 {
			w.written += int64(k * size)
			return w.refuse(ErrPlan, "value %v is beyond the range of %v; write the tensor as F32", part[k], t.Type)
		}
		if err := w.accept(len(part) * size); err != nil {
			return err
		}
	}
	return nil
}

// encode fills the buffer. It returns the index of a finite value that became infinite, or -1.
func (w *Writer) encode(t Type, values []float32) int {
	infinity := uint16(0x7c00)
	for i, x := range values {
		var h uint16
		switch t {
		case F32:
			w.buffer = binary.LittleEndian.AppendUint32(w.buffer, math.Float32bits(x))
			continue
		case F16:
			h = floats.ToHalf(x)
		default:
			h, infinity = floats.ToBFloat(x), 0x7f80
		}
		if h&0x7fff == infinity && !math.IsInf(float64(x), 0) {
			return i
		}
		w.buffer = binary.LittleEndian.AppendUint16(w.buffer, h)
	}
	return -1
}

// WriteTernary writes the next rows of a TQ1_0 or TQ2_0 tensor: codes in -1, 0, 1, and one scale for each 256 of them. A weight is read back as code·scale, exactly.
//
// Errors: ErrScale for a scale that binary16 does not hold exactly (round it with RoundHalf before choosing the codes), or that is not finite; ErrPlan for other codes, for
// codes that are not whole rows, and for scales of another number.
func (w *Writer) WriteTernary(codes []int8, scales []float32) error {
	t, left, err := w.open(max(len(codes), len(scales)), "codes")
	if err != nil || t == nil {
		return err
	}
	if !t.Type.Ternary() {
		return w.refuse(ErrPlan, "codes for a tensor of type %v; TQ1_0 and TQ2_0 have ternary codes", t.Type)
	}
	if err := w.rows(t, len(codes), t.Cols(), left, "codes"); err != nil {
		return err
	}
	if len(scales) != len(codes)/Block {
		return w.refuse(ErrPlan, "%d scales for %d codes; one for %d is taken", len(scales), len(codes), Block)
	}
	_, size, _ := t.Type.Size()
	var block [tq2Bytes]byte
	for k, s := range scales {
		h := floats.ToHalf(s)
		switch {
		case h&0x7c00 == 0x7c00: // infinite or NaN, or it would become so
			return w.refuse(ErrScale, "scale %d is %v; finite ones up to 65504 are stored", k, s)
		case math.Float32bits(floats.Half(h)) != math.Float32bits(s):
			return w.refuse(ErrScale, "scale %d is %v, the nearest one is %v; round scales with RoundHalf before choosing the codes", k, s, floats.Half(h))
		}
		part := codes[k*Block:][:Block]
		for i, c := range part {
			if c < -1 || c > 1 {
				return w.refuse(ErrPlan, "code %d is %d; -1, 0 and 1 are stored", k*Block+i, c)
			}
		}
		encodeTernary(t.Type, block[:size], part, h)
		w.buffer = append(w.buffer, block[:size]...)
		if err := w.accept(size); err != nil {
			return err
		}
	}
	return nil
}

// WriteBytes writes the next rows of a tensor of any type as bytes of the file, such as File.Bytes gives. Their contents are not checked; what is not whole rows is ErrPlan.
func (w *Writer) WriteBytes(rows []byte) error {
	t, left, err := w.open(len(rows), "bytes")
	if err != nil || t == nil {
		return err
	}
	if err := w.rows(t, len(rows), t.rowBytes(), left, "bytes"); err != nil {
		return err
	}
	for i := 0; i < len(rows); i += chunk {
		part := rows[i:min(i+chunk, len(rows))]
		w.buffer = append(w.buffer, part...)
		if err := w.accept(len(part)); err != nil {
			return err
		}
	}
	return nil
}

// Close completes the file: synced, renamed to its path, and the folder synced. It is ErrPlan, and no file is left, when tensors or rows are missing. Closing again
// returns the same.
func (w *Writer) Close() error {
	if w.ended {
		return w.err
	}
	if w.next < len(w.tensors) {
		t := &w.tensors[w.next]
		return w.refuse(ErrPlan, "%d of its %d bytes and %d of %d tensors were written when the file was closed", w.written, t.Size, w.next, len(w.tensors))
	}
	if err := w.put(w.buffer); err != nil {
		return err
	}
	if err := w.finish(); err != nil {
		return w.stop(fmt.Errorf("save %s: %w", w.path, err))
	}
	w.ended = true
	return nil
}

func (w *Writer) finish() error {
	if w.file == nil {
		return nil
	}
	return w.file.Commit(0o644)
}

// Abort removes what was written. After Close it does nothing, so that it can be deferred.
func (w *Writer) Abort() {
	if !w.ended {
		w.stop(fmt.Errorf("save %s: it was aborted", w.path))
	}
}
