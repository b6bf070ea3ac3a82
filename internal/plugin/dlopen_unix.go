// SPDX-License-Identifier: Apache-2.0

//go:build unix

package plugin

import (
	"github.com/ebitengine/purego"

	"github.com/setun-compute/setun/internal/fenv"
)

// dlopen opens a library and resolves its entry point. A library whose constructors change the thread's floating-point control is refused, and the control put back: it stays
// loaded, but nothing in it is called. (The guard also locks the thread, to which the loader's message belongs.)
func dlopen(path, symbol string) (entry uintptr, err error) {
	changed := fenv.Guard(func() {
		h, failed := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
		if failed != nil {
			err = refuse("%v", failed)
			return
		}
		if entry, failed = purego.Dlsym(h, symbol); failed != nil || entry == 0 {
			err = refuse("no symbol %s", symbol)
		}
	})
	if changed != "" {
		return 0, refuse("loading it changed the processor's %s, as code built with -ffast-math does: build it without", changed)
	}
	return entry, err
}
