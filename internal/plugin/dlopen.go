// SPDX-License-Identifier: Apache-2.0

package plugin

import "github.com/setun-compute/setun/internal/fenv"

// dlopen opens a library and resolves its entry point. A library whose constructors change the thread's floating-point control is refused, and the control put back: it stays
// loaded, but nothing in it is called.
func dlopen(path, symbol string) (entry uintptr, err error) {
	if changed := fenv.Guard(func() { entry, err = openSymbol(path, symbol) }); changed != "" {
		return 0, refuse("loading it changed the processor's %s, as code built with -ffast-math does: build it without", changed)
	}
	return entry, err
}
