// SPDX-License-Identifier: Apache-2.0

//go:build !unix && !windows

package plugin

// openSymbol: there is no loader here. The runtime goes on in pure Go and says so.
func openSymbol(path, symbol string) (uintptr, error) {
	return 0, refuse("native libraries are not supported on this operating system")
}

// FileOf returns the path of the file that a function of a loaded library lies in; it is not known here.
func FileOf(uintptr) string { return "" }
