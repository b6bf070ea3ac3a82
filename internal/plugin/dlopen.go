// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/fenv"
)

// ErrFloatEnvironment is wrapped by the error for a library that changes how the processor rounds or treats subnormal values. It wraps backends.ErrLibrary.
var ErrFloatEnvironment = fmt.Errorf("%w: it changes the float environment", backends.ErrLibrary)

// Undisturbed calls f, which calls into a library, on one thread and puts the float environment back. The error wraps ErrFloatEnvironment when f changed it.
func Undisturbed(when string, f func()) error {
	if changed := fenv.Guard(f); changed != "" {
		return fmt.Errorf("%w: %s %s, as code built with -ffast-math does: build it without", ErrFloatEnvironment, changed, when)
	}
	return nil
}

// dlopen opens a library and resolves its entry point. A library whose constructors change the float environment is refused: it stays loaded, but nothing in it
// is called.
func dlopen(path, symbol string) (entry uintptr, err error) {
	if failed := Undisturbed("when it was loaded", func() { entry, err = openSymbol(path, symbol) }); failed != nil {
		return 0, failed
	}
	return entry, err
}
