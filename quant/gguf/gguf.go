// SPDX-License-Identifier: Apache-2.0

// Package gguf reads and writes GGUF, the model files of ggml and llama.cpp, with the ternary tensor types TQ1_0 and TQ2_0. Every byte of a file that is
// read counts as hostile: counts, sizes and the relations between them are checked before anything is allocated or looked at.
//
// A file is: the magic string "GGUF", a uint32 version, the counts of tensors and keys as uint64, the keys with typed values, a description of each
// tensor (name, dimensions, type, offset), padding to the alignment, then the tensors' bytes, each padded to the alignment. All is little-endian. Sources:
// docs/gguf.md of ggml-org/ggml for the layout, ggml/src/gguf.cpp of ggml-org/llama.cpp for what its loader refuses, gguf-py for block sizes.
//
// Read a tensor with [File.Floats], by parts with [File.Rows], or as codes and scales with [File.Ternary]. Write with [Create].
package gguf

import (
	"errors"
	"fmt"
)

// Limits on what is read and written. They lie far above what models use, and bound the time and memory that a forged file can cost.
const (
	MaxTensors    = 1 << 16   // tensors in a file
	MaxKeys       = 1 << 16   // keys in a file
	MaxKeyLength  = 1<<16 - 1 // bytes of a key: the format's own limit
	MaxNameLength = 63        // bytes of a tensor's name: ggml keeps 64 with a zero at the end
	MaxString     = 64 << 20  // bytes of one string value
	MaxMetadata   = 256 << 20 // bytes of all keys and values together
	MaxDims       = 4         // dimensions of a tensor
	MaxAlignment  = 1 << 20   // bytes
)

// Sentinels for errors.Is. Every error about a file's contents, or about contents that were to be written, wraps one of them in an *Error.
var (
	ErrFormat      = errors.New("not a valid GGUF file")
	ErrUnsupported = errors.New("a kind of GGUF file or tensor that is not supported")
	ErrPlan        = errors.New("this cannot be written as GGUF")                // keys, tensors or values that the format has no place for
	ErrBlock       = errors.New("the row length is not a multiple of the block") // of the tensor type that was to be written
	ErrScale       = errors.New("a scale that binary16 does not hold exactly")
)

// ErrRange is returned for tensors and rows that a file does not have.
var ErrRange = errors.New("the file has no such tensor or rows")

// Error says what is wrong in a file, and where.
type Error struct {
	Path    string // empty when the bytes did not come from a named file
	Offset  int64  // of the first byte that is wrong, from the file's begin
	Subject string // the key or tensor that it is about, `key "general.alignment"`; may be empty
	Detail  string
	Err     error // one of the sentinels
}

// Error formats as `x.gguf: byte 480: tensor "blk.0.attn_q.weight": …: not a valid GGUF file`.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %v", e.Detail, e.Err)
	if e.Subject != "" {
		s = e.Subject + ": " + s
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

// about fills in what the error is about, where it is not known deeper down.
func (e *Error) about(subject string) *Error {
	if e.Subject == "" {
		e.Subject = subject
	}
	return e
}
