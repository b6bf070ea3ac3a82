// SPDX-License-Identifier: Apache-2.0

//go:build unix

package plugin

import (
	"fmt"
	"io/fs"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/setun-compute/setun/backends"
)

// openSymbol has the system's loader load a library, and looks up a symbol. The loader's message belongs to the thread.
func openSymbol(path, symbol string) (uintptr, error) {
	h, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	switch {
	case err != nil && notThere(path, err.Error()):
		return 0, fmt.Errorf("%w: %v%w", backends.ErrLibrary, err, silent{fs.ErrNotExist})
	case err != nil:
		return 0, refuse("%v", err)
	}
	entry, err := purego.Dlsym(h, symbol)
	if err != nil || entry == 0 {
		return 0, fmt.Errorf("%w %s", errNoEntry, symbol)
	}
	return entry, nil
}

// notThere says whether the loader has found no file of that name, by what glibc, musl, dyld and FreeBSD's say then. That a file is damaged, or needs one that is not there, is another matter.
func notThere(name, said string) bool {
	const tried = "' (no such file"
	return strings.HasPrefix(said, name+": cannot open shared object file: No such file or directory") || said == "Error loading shared library "+name+": No such file or directory" ||
		strings.HasPrefix(said, fmt.Sprintf("Shared object %q not found", name)) ||
		strings.HasPrefix(said, "dlopen("+name+", ") && strings.Contains(said, tried) && strings.Count(said, tried) == strings.Count(said, "' (") && !strings.Contains(said, "Library not loaded")
}

// silent is a sentinel of which the message has said enough.
type silent struct{ error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.error }

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
