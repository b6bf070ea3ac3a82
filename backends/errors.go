// SPDX-License-Identifier: Apache-2.0

package backends

import (
	"errors"
	"fmt"
	"strings"
)

// Sentinels for errors.Is. Every error of an op wraps one of them in an *Error.
var (
	ErrArgument    = errors.New("invalid argument")           // a size, option or radius out of range
	ErrShape       = errors.New("shapes do not fit")          // lengths that contradict each other or overflow
	ErrAlias       = errors.New("destination overlaps input") // partial overlap; exact overlap is allowed where said
	ErrNonFinite   = errors.New("not a finite number")        // a NaN or an infinity in the input
	ErrRange       = errors.New("values out of range")        // finite, but too large for the op's arithmetic
	ErrUnsupported = errors.New("not supported by this kernel")
	ErrBackend     = errors.New("backend failed") // a native or device failure; the runtime tries the next best kernel
	ErrNoBackend   = errors.New("no backend can serve the call")
	ErrClosed      = errors.New("runtime is closed")
	ErrLibrary     = errors.New("library refused") // missing, not a library, another machine's, or without the entry point
	ErrABIMismatch = fmt.Errorf("%w: ABI version mismatch", ErrLibrary)

	// ErrMemory, ErrLost, ErrBlocked and ErrWrong are failures of the backend, ErrBackend, of which more is known.
	ErrMemory  = fmt.Errorf("%w: out of memory", ErrBackend)            // the backend's, a device's above all; a smaller call may do
	ErrLost    = fmt.Errorf("%w: the device is lost", ErrBackend)       // until the process ends: no further call can succeed
	ErrBlocked = fmt.Errorf("%w: a kernel does not return", ErrBackend) // though its context has ended: nothing that the call was given may be used again; or a buffer is still such a call's
	ErrWrong   = fmt.Errorf("%w: wrong result", ErrBackend)             // a part of it was computed again, and came out otherwise
)

// Error says what failed, where, and on which argument.
type Error struct {
	Op      string // "kmeans"
	Shape   string // "1000x64 k=2000"
	Backend string // "cpu"; empty when the call did not get that far
	Detail  string // "k = 2000 exceeds 1000 points"
	Err     error  // one of the sentinels
}

// Error formats as "kmeans 1000x64 k=2000 on cpu: k = 2000 exceeds 1000 points: invalid argument".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Shape != "" {
		b.WriteString(" " + e.Shape)
	}
	if e.Backend != "" {
		b.WriteString(" on " + e.Backend)
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	return b.String() + ": " + e.Err.Error()
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }

// Fail makes an *Error with a formatted detail.
func Fail(sentinel error, op Op, shape, detail string, args ...any) *Error {
	return &Error{Op: op.String(), Shape: shape, Detail: fmt.Sprintf(detail, args...), Err: sentinel}
}

// OnBackend returns err with the backend's name filled in, when it is an *Error that has none. err itself stays as it is.
func OnBackend(err error, name string) error {
	var e *Error
	if errors.As(err, &e) && e.Backend == "" {
		c := *e
		c.Backend = name
		return &c
	}
	return err
}
