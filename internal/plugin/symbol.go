// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"path/filepath"

	"github.com/setun-compute/setun/internal/admit"
)

// Symbol opens a library that is not a Setun backend and returns the address of one of its symbols. A path is checked as admit.OpenForeign does; a bare name is left to the system's loader, which looks
// in its own folders. Errors wrap backends.ErrLibrary. The library is never unloaded.
func Symbol(library, symbol string) (uintptr, error) {
	if !filepath.IsAbs(library) {
		return dlopen(library, symbol)
	}
	f, err := admit.OpenForeign(library)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return openAdmitted(f, symbol)
}

// Text copies a C string that a library returned.
func Text(p *byte) string { return text(p, maxText) }

// SystemGate decides about a library that is not a Setun backend, before anything in it runs.
type SystemGate interface {
	// AdmitSystem says which file to load for an absolute path or a bare name; or with an error that nothing is to be loaded, and which state that is.
	AdmitSystem(name string) (file string, pass Pass, state State, err error)
}
