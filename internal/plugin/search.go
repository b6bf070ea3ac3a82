// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"os"
	"path/filepath"
	"runtime"

	"github.com/setun-compute/setun/internal/admit"
)

// PathVariable is the environment variable that lists folders (or files) to look for backends in.
const PathVariable = "SETUN_BACKEND_PATH"

// Place is where to look for a library.
type Place struct {
	Path   string // a folder, or the library itself when File is set
	File   bool
	Gate   Gate   // that its libraries must pass; nil: none
	Others bool   // its libraries are no parts of Setun: all of their kernels are used
	Origin string // "option", "SETUN_BACKEND_PATH", "beside the executable", …
}

// FileName returns the file name of a backend's library: libsetun_simd_c.so.
func FileName(name string) string {
	switch runtime.GOOS {
	case "windows":
		return "setun_" + name + ".dll"
	case "darwin":
		return "libsetun_" + name + ".dylib"
	}
	return "libsetun_" + name + ".so"
}

// UserDir returns the folder that `make native` installs into: $XDG_DATA_HOME/setun/abi1, by default below ~/.local/share.
// It is empty when there is no home, and in a process with privileges that its user lacks (admit.Raised), which must not believe where his home is.
func UserDir() string {
	if admit.Raised() {
		return ""
	}
	data := os.Getenv("XDG_DATA_HOME")
	if data == "" || !filepath.IsAbs(data) {
		home, err := os.UserHomeDir()
		if err != nil || !filepath.IsAbs(home) {
			return ""
		}
		data = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(data, "setun", "abi1")
}

// DefaultPlaces returns where backends are looked for, in order: the given folders, SETUN_BACKEND_PATH, beside the executable, the user's data folder, the
// system's. Never the current directory; of what the environment says, nothing in a process that is admit.Raised.
func DefaultPlaces(folders []string) []Place {
	var places []Place
	for _, f := range folders {
		places = append(places, Place{Path: f, Origin: "option"})
	}
	for _, p := range filepath.SplitList(admit.Getenv(PathVariable)) {
		if p != "" {
			places = append(places, Place{Path: p, Origin: PathVariable})
		}
	}
	if exe, err := os.Executable(); err == nil {
		places = append(places, Place{Path: filepath.Dir(exe), Origin: "beside the executable"})
	}
	if d := UserDir(); d != "" {
		places = append(places, Place{Path: d, Origin: "user data"})
	}
	if runtime.GOOS != "windows" {
		places = append(places, Place{Path: "/usr/local/lib/setun", Origin: "system"})
	}
	return places
}
