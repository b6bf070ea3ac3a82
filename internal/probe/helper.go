// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"os"
	"path/filepath"
)

// openHelper opens the program that is to be started for probes, and returns by what name to start it. It must be such that nobody else could have changed it.
func openHelper(path string) (*os.File, string, error) {
	if !filepath.IsAbs(path) {
		return nil, "", fmt.Errorf("the helper %q is not an absolute path", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("the helper: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err == nil {
		err = vetHelper(path, info)
	}
	if err != nil {
		f.Close()
		return nil, "", fmt.Errorf("the helper: %w", err)
	}
	return f, byDescriptor(f), nil
}
