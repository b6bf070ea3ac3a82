// SPDX-License-Identifier: Apache-2.0

// Package npy reads and writes NumPy's npy files. Every byte of a file that is read counts as hostile: sizes and the relations between
// them are checked before anything is allocated.
//
// The format is numpy.lib.format's: the magic string \x93NUMPY, two bytes of version, the header's length in two bytes (version 1) or four
// (versions 2 and 3), a header that is a Python dict literal, then the values.
package npy

import (
	"errors"
	"fmt"
)

// Sentinels for errors.Is. Every error about a file's contents wraps one of them in an *Error.
var (
	ErrFormat      = errors.New("not a valid npy file")
	ErrUnsupported = errors.New("a kind of npy file that is not supported")
)

// Error says what is wrong in a file, and where.
type Error struct {
	Path   string // empty when the bytes did not come from a named file
	Offset int64  // of the first byte that is wrong
	Detail string
	Err    error // ErrFormat or ErrUnsupported
}

// Error formats as "x.npy: byte 20: descr is '>f4', …: a kind of npy file that is not supported".
func (e *Error) Error() string {
	s := fmt.Sprintf("byte %d: %s: %v", e.Offset, e.Detail, e.Err)
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	return s
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }

func fail(sentinel error, offset int, detail string, args ...any) *Error {
	return &Error{Offset: int64(offset), Detail: fmt.Sprintf(detail, args...), Err: sentinel}
}
