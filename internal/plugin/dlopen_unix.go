// SPDX-License-Identifier: Apache-2.0

//go:build unix

package plugin

import (
	"runtime"

	"github.com/ebitengine/purego"
)

// dlopen opens a library and resolves its entry point. The thread is locked because the loader's message belongs to the thread.
func dlopen(path, symbol string) (uintptr, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	h, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return 0, refuse("%v", err)
	}
	entry, err := purego.Dlsym(h, symbol)
	if err != nil || entry == 0 {
		return 0, refuse("no symbol %s", symbol)
	}
	return entry, nil
}
