// SPDX-License-Identifier: Apache-2.0

// Package safetensors reads and writes safetensors files, also checkpoints of several files with an index. Every byte of a file that is read counts as hostile:
// sizes and the relations between them are checked before anything is allocated or looked at.
//
// A file is: the header's length as a little-endian uint64, the header, then the tensors' bytes. The header is a JSON object with one entry a tensor, of type, shape and
// the bytes it takes; tensors follow each other without gaps, in row-major order, and fill the file. The format's description is the README of huggingface/safetensors.
//
// Values are read as float32 from F32, F16 and BF16: whole with [File.Floats], by parts with [File.Rows].
package safetensors

import (
	"errors"
	"fmt"
)

// Limits on what is read. They bound the time and memory that a forged file can cost.
const (
	MaxHeader   = 100_000_000 // bytes of a header or an index: the reference implementation's own limit
	MaxTensors  = 1 << 20     // tensors in a file, or in an index
	MaxMetadata = 1 << 16     // entries of __metadata__
	MaxDims     = 64          // dimensions of a tensor
	MaxFiles    = 1 << 12     // files of an index
)

// Sentinels for errors.Is. Every error about a file's contents, or about contents that were to be written, wraps one of them in an *Error.
var (
	ErrFormat      = errors.New("not a valid safetensors file")
	ErrUnsupported = errors.New("a kind of safetensors file or tensor that is not supported")
	ErrIndex       = errors.New("not a valid index of safetensors files")
	ErrPlan        = errors.New("this cannot be written as safetensors")
)

// ErrRange is returned for tensors and rows that a file does not have.
var ErrRange = errors.New("the file has no such tensor or rows")

// Error says what is wrong in a file, and where.
type Error struct {
	Path   string // empty when the bytes did not come from a named file
	Offset int64  // of the first byte that is wrong, from the file's begin
	Tensor string // that it is about; may be empty
	Detail string
	Err    error // one of the sentinels
}

// Error formats as `x.safetensors: byte 480: tensor "wte": …: not a valid safetensors file`.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %v", e.Detail, e.Err)
	if e.Tensor != "" {
		s = fmt.Sprintf("tensor %q: %s", e.Tensor, s)
	}
	s = fmt.Sprintf("byte %d: %s", e.Offset, s)
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	return s
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }

func fail[I int | int64](sentinel error, offset I, detail string, args ...any) *Error {
	return &Error{Offset: int64(offset), Detail: fmt.Sprintf(detail, args...), Err: sentinel}
}

// about fills in the tensor, where it is not known deeper down.
func (e *Error) about(tensor string) *Error {
	if e.Tensor == "" {
		e.Tensor = tensor
	}
	return e
}

// about is Error.about for an error that may be one.
func about(err error, tensor string) error {
	if e, ok := err.(*Error); ok {
		return e.about(tensor)
	}
	return err
}

// at fills in the path of an error about contents.
func at(err error, path string) error {
	if e, ok := err.(*Error); ok && e.Path == "" {
		e.Path = path
	}
	return err
}
