// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/internal/floats"
	"github.com/setun-compute/setun/quant"
)

// Writer writes a file, tensor after tensor. A tensor is added in one go, or in parts between Begin and End; then only a part, its scales and a few MiB are in memory. A wrong
// argument leaves the Writer as it was;
// after any other error all calls return that error, and Close removes what was written. Not for use by several goroutines at once.
type Writer struct {
	file     *durable.Draft
	body     *body
	metadata map[string]string
	tensors  []Info
	names    map[string]bool
	open     *stream
	err      error // the first failure, or os.ErrClosed
}

// stream is the tensor that is being written.
type stream struct {
	info   Info
	rows   int   // so far
	values int64 // so far, of a tensor that is not quantized
	scales []float32
	coder  coder
}

// Create begins a file that appears under path when Close has returned nil: until then it is a hidden file in the same folder, which is made when it is missing. metadata is
// copied; it may be nil.
// Errors wrap ErrArgument or ErrLimit, or are those of the file system.
func Create(path string, metadata map[string]string) (*Writer, error) {
	return createIn(durable.Files{}, path, metadata)
}

func createIn(files durable.Files, path string, metadata map[string]string) (*Writer, error) {
	if e := checkMetadata(metadata); e != nil {
		return nil, fmt.Errorf("create %s: %w", path, argument(e))
	}
	file, err := files.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	return &Writer{file: file, body: newBody(file), metadata: maps.Clone(metadata), names: map[string]bool{}}, nil
}

// argument turns what a reader would call a wrong file into a wrong argument.
func argument(e *Error) error {
	if e.Err == ErrLimit {
		return fmt.Errorf("%s: %w", e.Detail, ErrLimit)
	}
	return fmt.Errorf("%s: %w", e.Detail, ErrArgument)
}

// Add writes a tensor. shape has Rows·Cols values in all; nil stands for Rows×Cols. Coding 0 takes the smallest one, see Smallest. Scales become binary16 where that loses nothing.
// Errors wrap ErrArgument (a name that is taken, codes or scales that cannot be stored, a coding that does not fit the levels) or ErrLimit.
func (w *Writer) Add(name string, shape []int64, t *quant.Tensor, coding Coding) error {
	if w.err != nil {
		return w.err
	}
	if err := checkTensor(t); err != nil {
		return fmt.Errorf("tensor %q: %w", name, err)
	}
	if shape == nil {
		shape = []int64{int64(t.Rows), int64(t.Cols)}
	}
	if coding == 0 {
		var err error
		if coding, _, err = Smallest(t); err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
	}
	if err := w.Begin(name, shape, t.Levels, t.Cols, t.Group, coding); err != nil {
		return err
	}
	if t.Rows != w.open.info.Rows {
		w.open = nil
		return fmt.Errorf("tensor %q: %d rows of %d codes as shape %v: %w", name, t.Rows, t.Cols, shape, ErrArgument)
	}
	if err := w.AddRows(t); err != nil {
		if w.err == nil {
			w.open = nil // nothing was written yet
		}
		return err
	}
	return w.End()
}

// Begin opens a tensor whose rows of cols codes follow with AddRows; End closes it. group is as in quant.Options: 0 is one scale for the whole tensor, quant.PerRow one a row.
// Errors are those of Add.
func (w *Writer) Begin(name string, shape []int64, levels quant.Levels, cols, group int, coding Coding) error {
	if levels == 0 {
		levels = quant.Ternary
	}
	if group == quant.PerRow {
		group = cols
	}
	info := Info{Name: name, Shape: slices.Clone(shape), Kind: Quantized, Levels: levels, Coding: coding, Cols: cols, Group: group, Pack: 1, ScaleKind: F32}
	return w.begin(info)
}

// BeginFloats opens a tensor of float32 values, stored as F32, F16 or BF16, whose values follow with AddValues; End closes it.
func (w *Writer) BeginFloats(name string, shape []int64, kind Kind) error {
	return w.begin(Info{Name: name, Shape: slices.Clone(shape), Kind: kind})
}

func (w *Writer) begin(info Info) error {
	if w.err != nil {
		return w.err
	}
	err := func() error {
		switch {
		case w.open != nil:
			return fmt.Errorf("tensor %q has not ended: %w", w.open.info.Name, ErrArgument)
		case w.names[info.Name]:
			return fmt.Errorf("there is one of that name: %w", ErrArgument)
		case len(w.tensors) == MaxTensors:
			return fmt.Errorf("more than %d tensors: %w", MaxTensors, ErrLimit)
		case info.Kind < Quantized || info.Kind > BF16:
			return fmt.Errorf("%v: %w", info.Kind, ErrArgument)
		}
		if e := checkName(info.Name); e != nil {
			return argument(e)
		}
		if e := checkShape(info.Shape); e != nil {
			return argument(e)
		}
		if info.Kind != Quantized {
			return nil
		}
		info.Rows = int(info.Values() / int64(max(1, info.Cols)))
		if info.Coding == RANS && info.Rows > 0 && info.Cols > 0 {
			info.Pack = packFor(info.Levels, info.Rows, info.Cols)
		}
		if e := info.check(); e != nil {
			return argument(e)
		}
		return nil
	}()
	if err != nil {
		return fmt.Errorf("tensor %q: %w", info.Name, err)
	}
	info.Codes.Offset = w.body.at
	w.open = &stream{info: info}
	if info.Kind == Quantized {
		w.open.coder = newCoder(&w.open.info, w.body)
	}
	return nil
}

// AddRows appends the rows of chunk, which has levels, columns and group of Begin, in any format. With one scale for the whole tensor, each chunk has that scale. How rows are cut
// into chunks does not change the file.
func (w *Writer) AddRows(chunk *quant.Tensor) error {
	if w.err != nil {
		return w.err
	}
	if w.open == nil || w.open.coder == nil {
		return fmt.Errorf("no tensor of codes was begun: %w", ErrArgument)
	}
	s := w.open
	if err := s.accept(chunk); err != nil {
		return fmt.Errorf("tensor %q: %w", s.info.Name, err)
	}
	if err := s.coder.add(chunk); err != nil {
		return w.broken(err)
	}
	if s.rows == 0 || s.info.Group > 0 {
		s.scales = append(s.scales, chunk.Scales...)
	}
	s.rows += chunk.Rows
	return nil
}

func checkTensor(t *quant.Tensor) error {
	if t == nil {
		return fmt.Errorf("no tensor: %w", ErrArgument)
	}
	if err := t.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrArgument, err)
	}
	return nil
}

// accept checks that a chunk can be written, all of it, before any of it is.
func (s *stream) accept(chunk *quant.Tensor) error {
	if err := checkTensor(chunk); err != nil {
		return err
	}
	i := &s.info
	switch {
	case chunk.Levels != i.Levels || chunk.Cols != i.Cols || chunk.Group != i.Group:
		return fmt.Errorf("rows of %d %v codes in groups of %d, among rows of %d %v codes in groups of %d: %w",
			chunk.Cols, chunk.Levels, chunk.Group, i.Cols, i.Levels, i.Group, ErrArgument)
	case chunk.Rows > i.Rows-s.rows:
		return fmt.Errorf("%d rows and %d more, of %d: %w", s.rows, chunk.Rows, i.Rows, ErrArgument)
	case i.Group == 0 && s.rows > 0 && math.Float32bits(chunk.Scales[0]) != math.Float32bits(s.scales[0]):
		return fmt.Errorf("two scales, %v and %v, of one for the whole tensor: %w", s.scales[0], chunk.Scales[0], ErrArgument)
	}
	if n := slices.IndexFunc(chunk.Scales, notFinite); n >= 0 {
		return fmt.Errorf("scale %d is %v: %w", n, chunk.Scales[n], ErrArgument)
	}
	if row, ok := validCodes(chunk); !ok {
		return fmt.Errorf("row %d has a code that is not %v: %w", row, chunk.Levels, ErrArgument)
	}
	if i.Levels == quant.Sparse && (i.Coding == Four5 || i.Coding == RANS) && chunk.Format != quant.Four5 {
		if row, ok := validSparse(chunk); !ok {
			return fmt.Errorf("row %d has four codes of one place that are not one 0 and three others: %w", row, ErrArgument)
		}
	}
	return nil
}

// AddFloats writes values as F32, or rounded to nearest as F16 or BF16. shape has len(values) values. Errors wrap ErrArgument or ErrLimit.
func (w *Writer) AddFloats(name string, shape []int64, kind Kind, values []float32) error {
	if kind == Quantized {
		kind = 0
	}
	if err := w.BeginFloats(name, shape, kind); err != nil {
		return err
	}
	if n := w.open.info.Values(); n != int64(len(values)) {
		w.open = nil
		return fmt.Errorf("tensor %q: %d values as shape %v: %w", name, len(values), shape, ErrArgument)
	}
	if err := w.AddValues(values); err != nil {
		return err
	}
	return w.End()
}

// AddValues appends values to the tensor that BeginFloats opened.
func (w *Writer) AddValues(values []float32) error {
	if w.err != nil {
		return w.err
	}
	if w.open == nil || w.open.coder != nil {
		return fmt.Errorf("no tensor of values was begun: %w", ErrArgument)
	}
	s := w.open
	if left := s.info.Values() - s.values; int64(len(values)) > left {
		return fmt.Errorf("tensor %q: %d values where %d are missing: %w", s.info.Name, len(values), left, ErrArgument)
	}
	s.values += int64(len(values))
	return w.broken(writeFloats(w.body, s.info.Kind, values))
}

// End closes the tensor. All of its rows or values must have come; an error that wraps ErrArgument leaves it open.
func (w *Writer) End() error {
	if w.err != nil {
		return w.err
	}
	s := w.open
	switch {
	case s == nil:
		return fmt.Errorf("no tensor was begun: %w", ErrArgument)
	case s.coder == nil && s.values != s.info.Values():
		return fmt.Errorf("tensor %q: %d values of %d: %w", s.info.Name, s.values, s.info.Values(), ErrArgument)
	case s.coder != nil && s.rows != s.info.Rows:
		return fmt.Errorf("tensor %q: %d rows of %d: %w", s.info.Name, s.rows, s.info.Rows, ErrArgument)
	}
	if err := w.broken(w.sections(s)); err != nil {
		return err
	}
	w.open = nil
	w.names[s.info.Name] = true
	w.tensors = append(w.tensors, s.info)
	return nil
}

// sections writes what follows codes and values.
func (w *Writer) sections(s *stream) error {
	i := &s.info
	var index []byte
	if s.coder != nil {
		var err error
		if index, err = s.coder.finish(); err != nil {
			return err
		}
	}
	i.Codes.Size = w.body.at - i.Codes.Offset
	if err := w.body.align(); err != nil {
		return err
	}
	if len(index) > 0 {
		i.Index = Section{w.body.at, int64(len(index))}
		if _, err := w.body.Write(index); err != nil {
			return err
		}
		if err := w.body.align(); err != nil {
			return err
		}
	}
	if s.coder == nil {
		return nil
	}
	i.ScaleKind = ScaleKind(s.scales)
	i.Scales = Section{w.body.at, int64(len(s.scales)) * i.ScaleKind.size()}
	if err := writeFloats(w.body, i.ScaleKind, s.scales); err != nil {
		return err
	}
	return w.body.align()
}

// ScaleKind returns what scales are written as: F16 where that loses nothing, else F32.
func ScaleKind(scales []float32) Kind {
	if slices.ContainsFunc(scales, func(v float32) bool { return floats.Half(floats.ToHalf(v)) != v }) {
		return F32
	}
	return F16
}

// broken keeps the first failure.
func (w *Writer) broken(err error) error {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("write %s: %w", w.file.Path(), err)
	}
	return w.err
}

// Close writes the header, makes all durable and gives the file its name, replacing one that was there. After any error, an earlier one included, and when a tensor has not ended,
// nothing is left; only if the very
// last step fails, to sync the folder, the new file is there and may be lost with the power. Close again returns os.ErrClosed.
func (w *Writer) Close() error {
	if w.err == nil && w.open != nil {
		w.err = fmt.Errorf("write %s: tensor %q has not ended: %w", w.file.Path(), w.open.info.Name, ErrArgument)
	}
	if w.err == nil {
		w.broken(w.body.finish(appendHeader(nil, w.metadata, w.tensors), len(w.tensors)))
	}
	if w.err != nil {
		err := w.err
		w.Abort()
		return err
	}
	if err := w.broken(w.file.Commit(0o644)); err != nil {
		w.err = os.ErrClosed
		return err
	}
	w.err = os.ErrClosed
	return nil
}

// Abort ends without a file. It does nothing after Close.
func (w *Writer) Abort() {
	if w.err != os.ErrClosed {
		w.file.Discard()
		w.err = os.ErrClosed
	}
}
