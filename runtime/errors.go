// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/admit"
	"github.com/setun-compute/setun/internal/probe"
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
	ErrWrong       = backends.ErrWrong
	ErrBlocked     = backends.ErrBlocked
	ErrNoBackend   = backends.ErrNoBackend
	ErrClosed      = backends.ErrClosed
	ErrLibrary     = backends.ErrLibrary
	ErrABIMismatch = backends.ErrABIMismatch
	ErrPolicy      = dispatch.ErrPolicy

	// Reasons for ErrLibrary that docs/loading.md is about: others could change the file; it is cut off or contradicts itself; it is not the one that was installed.
	ErrUnsafe  = admit.ErrUnsafe
	ErrDamaged = admit.ErrDamaged
	ErrDigest  = admit.ErrDigest

	// And those that docs/failure-modes.md is about: the library did not survive its probe or gave wrong results there; no probe could be made; it did so some time before.
	ErrProbe       = probe.ErrProbe
	ErrNoProbe     = probe.ErrNoProbe
	ErrQuarantined = probe.ErrQuarantined

	// ErrStrict is returned by Open in strict mode when something that was there could not be used.
	ErrStrict = errors.New("strict mode")
)
