// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/setun-compute/setun/internal/admit"
)

// StateVariable is the environment variable with the folder for what is remembered between processes, or "none".
const StateVariable = "SETUN_STATE"

// Folder returns where the state is kept: SETUN_STATE, $XDG_STATE_HOME/setun, or setun in the user's cache folder, beside the profile. It is empty where there is none, and note says why.
func Folder() (path, note string) {
	if admit.Raised() {
		return "", "nothing is remembered between processes: this one has privileges that its user lacks"
	}
	if path = os.Getenv(StateVariable); path != "" {
		switch {
		case path == "none":
			return "", "nothing is remembered between processes: " + StateVariable + "=none"
		case !filepath.IsAbs(path):
			return "", fmt.Sprintf("nothing is remembered between processes: %s=%q is not an absolute path", StateVariable, path)
		}
		return filepath.Clean(path), ""
	}
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "setun"), ""
	}
	cache, err := os.UserCacheDir()
	if err != nil || !filepath.IsAbs(cache) {
		return "", "nothing is remembered between processes: there is no cache folder; set " + StateVariable
	}
	return filepath.Join(cache, "setun"), ""
}
