// SPDX-License-Identifier: Apache-2.0

//go:build unix

package plugin

import (
	"fmt"
	"unsafe"

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

// FileOf returns the path of the file that a function of a loaded library lies in, as the loader found it; empty where that is not known.
func FileOf(entry uintptr) string {
	dladdr, err := purego.Dlsym(purego.RTLD_DEFAULT, "dladdr")
	if err != nil {
		return ""
	}
	var info struct {
		file  *byte
		base  uintptr
		name  *byte
		entry uintptr
	}
	if found, _, _ := purego.SyscallN(dladdr, entry, uintptr(unsafe.Pointer(&info))); int32(found) == 0 {
		return ""
	}
	return text(info.file, maxPath)
}

const maxPath = 4096
