// SPDX-License-Identifier: Apache-2.0

//go:build unix

package plugin

import (
	"fmt"

	"github.com/ebitengine/purego"
)

// openSymbol has the system's loader load a library, and looks up a symbol. The loader's message belongs to the thread.
func openSymbol(path, symbol string) (uintptr, error) {
	h, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return 0, refuse("%v", err)
	}
	entry, err := purego.Dlsym(h, symbol)
	if err != nil || entry == 0 {
		return 0, fmt.Errorf("%w %s", errNoEntry, symbol)
	}
	return entry, nil
}
