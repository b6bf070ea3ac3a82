// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// Error says which op failed, on what shape and backend, and why. It wraps one of the sentinels.
type Error = backends.Error

// Sentinels for errors.Is.
var (
	ErrArgument    = backends.ErrArgument
	ErrShape       = backends.ErrShape
	ErrAlias       = backends.ErrAlias
	ErrNonFinite   = backends.ErrNonFinite
	ErrRange       = backends.ErrRange
	ErrBackend     = backends.ErrBackend
	ErrMemory      = backends.ErrMemory
	ErrLost        = backends.ErrLost
	ErrNoBackend   = backends.ErrNoBackend
	ErrClosed      = backends.ErrClosed
	ErrLibrary     = backends.ErrLibrary
	ErrABIMismatch = backends.ErrABIMismatch
	ErrPolicy      = dispatch.ErrPolicy
	// ErrStrict is returned by Open in strict mode when something that was there could not be used.
	ErrStrict = errors.New("strict mode")
)
