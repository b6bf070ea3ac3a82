// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"

	"golang.org/x/sys/windows"
)

// openSymbol has the system's loader load a library, and looks up a symbol. What the library needs is looked for beside it and in System32, never in the
// current directory or in PATH.
func openSymbol(path, symbol string) (uintptr, error) {
	h, err := windows.LoadLibraryEx(path, 0, windows.LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR|windows.LOAD_LIBRARY_SEARCH_SYSTEM32)
	if err != nil {
		return 0, refuse("%s: %v", path, err)
	}
	entry, err := windows.GetProcAddress(h, symbol)
	if err != nil || entry == 0 {
		return 0, fmt.Errorf("%w %s", errNoEntry, symbol)
	}
	return entry, nil
}

// FileOf returns the path of the file that a function of a loaded library lies in; it is not known here.
func FileOf(uintptr) string { return "" }
