// SPDX-License-Identifier: Apache-2.0

// Package stn reads and writes .stn files: containers of ternary, quinary and sparse tensors with their scales, and of plain floating-point values, by name.
//
// The codes of a tensor are stored in one of seven codings. Int8, Bits2, Base3 and Four5 are what package quant has in memory, and can be used where they lie in the file
// ([File.Mapped]). Planes is a bit a code
// that says whether it is 0 and one for the sign of each that is not; RANS is entropy-coded and the smallest but for Classes, which is
// RANS by classes of rows and columns. All three can be read by rows.
//
// A file is written front to back, each tensor in one go or by chunks of rows, and appears under its name when it is whole. Every byte of a file that is read counts as hostile:
// sizes, and relations
// between them, are checked before anything is allocated, and all bytes are covered by checksums. These find accidents; they are no proof against somebody who forges a file, who
// can compute them too.
//
// The format is described in docs/format-stn.md.
package stn

import (
	"errors"
	"fmt"
)

// Sentinels for errors.Is. Every error about a file's contents wraps one of the first four in an *Error.
var (
	ErrFormat      = errors.New("not a valid stn file")
	ErrChecksum    = errors.New("the checksum is wrong")
	ErrUnsupported = errors.New("a kind of stn file that is not supported")
	ErrLimit       = errors.New("beyond a limit of stn files")
	ErrNotFound    = errors.New("no such tensor")
	ErrArgument    = errors.New("wrong argument")
)

// Error says what is wrong in a file, and where.
type Error struct {
	Path   string
	Tensor string // empty when no one tensor is concerned
	Offset int64  // in the file, of the first byte that is wrong
	Detail string
	Err    error // ErrFormat, ErrChecksum, ErrUnsupported or ErrLimit
}

// Error formats as "x.stn: tensor "w": byte 128: scale 3 is NaN: not a valid stn file".
func (e *Error) Error() string {
	s := fmt.Sprintf("byte %d: %s: %v", e.Offset, e.Detail, e.Err)
	if e.Tensor != "" {
		s = fmt.Sprintf("tensor %q: %s", e.Tensor, s)
	}
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	return s
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }

func fail(sentinel error, offset int64, detail string, args ...any) *Error {
	return &Error{Offset: offset, Detail: fmt.Sprintf(detail, args...), Err: sentinel}
}

// What a file may hold. A writer refuses more with ErrLimit, and so does a reader.
const (
	MaxTensors  = 1 << 16   // tensors of a file
	MaxName     = 512       // bytes of a tensor's name
	MaxDims     = 16        // sizes of a shape
	MaxValues   = 1 << 48   // values of a tensor
	MaxCols     = 1<<31 - 1 // codes of a row
	MaxMetadata = 1 << 20   // bytes of all keys and values of the metadata together
	MaxKeys     = 4096      // keys of the metadata

	headerBase, headerEach = 8 << 20, 4 << 10 // bytes of a header: at most base + each·tensors
)

// The frame of a file.
const (
	magic     = "\x93STN\r\n\x1a\n" // a first byte beyond ASCII and both line ends, so that a transfer as text shows
	endMagic  = "\n\x1a\r\nNTS\x93"
	version   = 1
	alignment = 64      // of sections
	prefix    = 64      // bytes before the first section
	footer    = 64      // bytes after the header
	page      = 1 << 18 // bytes under one checksum
)

// aligned rounds up to where a section may begin.
func aligned(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

func ceil(n, d int64) int64 { return (n + d - 1) / d }
