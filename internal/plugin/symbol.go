// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"os"
	"path/filepath"
)

// Symbol opens a library that is not a Setun backend and returns the address of one of its symbols. A path is checked as a backend's file is; a bare name is left to the
// system's loader, which looks in its own folders. Errors wrap backends.ErrLibrary. The library is never unloaded.
func Symbol(library, symbol string) (uintptr, error) {
	if filepath.IsAbs(library) {
		f, err := os.Open(library)
		if err != nil {
			return 0, refuse("%v", err)
		}
		defer f.Close()
		if err := verify(f); err != nil {
			return 0, err
		}
	}
	return dlopen(library, symbol)
}

// Text copies a C string that a library returned.
func Text(p *byte) string { return text(p, maxText) }
