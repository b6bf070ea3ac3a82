// SPDX-License-Identifier: Apache-2.0

//go:build unix

package plugin

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/setun-compute/setun/backends"
)

// What loaders say when there is no such file, and what they say of one that cannot be loaded, or not now.
func TestNotThere(t *testing.T) {
	for said, want := range map[string]bool{
		"libx.so.0: cannot open shared object file: No such file or directory":                                                     true,
		"libx.so.0: cannot open shared object file: Too many open files":                                                           false,
		"libx.so.0: cannot open shared object file: Permission denied":                                                             false,
		"libx.so.0: failed to map segment from shared object: Cannot allocate memory":                                              false,
		"/lib/libx.so.0: file too short":                                                                                           false,
		"libneeded.so: cannot open shared object file: No such file or directory":                                                  false,
		"Error loading shared library libx.so.0: No such file or directory":                                                        true,
		"Error loading shared library libneeded.so: No such file or directory (needed by /lib/libx.so.0)":                          false,
		"Error loading shared library libx.so.0: No file descriptors available":                                                    false,
		`Shared object "libx.so.0" not found, required by "calibrate"`:                                                             true,
		`Shared object "libneeded.so" not found, required by "libx.so.0"`:                                                          false,
		"dlopen(libx.so.0, 0x0006): tried: 'libx.so.0' (no such file), '/usr/lib/libx.so.0' (no such file, not in dyld cache)":     true,
		"dlopen(libx.so.0, 0x0006): tried: '/opt/libx.so.0' (file too short), '/usr/lib/libx.so.0' (no such file)":                 false,
		"dlopen(libx.so.0, 0x0006): Library not loaded: @rpath/n.dylib\n  Referenced from: x\n  Reason: tried: 'n' (no such file)": false,
		"": false,
	} {
		if notThere("libx.so.0", said) != want {
			t.Errorf("%q: not %v", said, want)
		}
	}
}

// The loader of this machine.
func TestNamedIsNotThere(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("what the loader says then is not known here")
	}
	damaged := filepath.Join(t.TempDir(), "damaged.so")
	if err := os.WriteFile(damaged, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, absent := range map[string]bool{"libnone-of-that-name.so.7": true, "/nowhere/Accelerate": true, damaged: false} {
		if _, err := Named(name, "x"); !errors.Is(err, backends.ErrLibrary) || errors.Is(err, fs.ErrNotExist) != absent {
			t.Errorf("%s: %v", name, err)
		}
	}
}
