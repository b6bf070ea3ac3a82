// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package plugin

// dlopen is not there yet on this system: the runtime goes on in pure Go and says so.
func dlopen(path, symbol string) (uintptr, error) {
	return 0, refuse("native libraries are not supported on this operating system yet")
}
