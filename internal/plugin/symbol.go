// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"path/filepath"

	"github.com/setun-compute/setun/internal/admit"
)

// Symbol opens a library that is not a Setun backend and returns the address of one of its symbols. A path is checked as admit.OpenForeign does; a bare name is left to the system's loader, as Named does.
// Errors wrap backends.ErrLibrary. The library is never unloaded.
func Symbol(library, symbol string) (uintptr, error) {
	if !filepath.IsAbs(library) {
		return Named(library, symbol)
	}
	f, err := admit.OpenForeign(library)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return openAdmitted(f, symbol)
}

// Named is Symbol for a name that the system's loader knows, in its own folders or, with a path for a name, in its cache. The error wraps fs.ErrNotExist when the loader says that there is no such file.
func Named(library, symbol string) (uintptr, error) { return dlopen(library, symbol) }

// Text copies a C string that a library returned.
func Text(p *byte) string { return text(p, maxText) }

// SystemGate decides about a library that is not a Setun backend, before anything in it runs.
type SystemGate interface {
	// AdmitSystem says which file to load for an absolute path or, if it is named, for a name that the system's loader knows; that is returned where no file is known for it. With an error nothing is to
	// be loaded, and state is why.
	AdmitSystem(name string, named bool) (file string, pass Pass, state State, err error)
}
