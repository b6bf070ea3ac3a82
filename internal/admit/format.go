// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"io"
	"runtime"
)

// checkFormat refuses files that would kill the process inside the system's loader, and says in words what is wrong with the others.
func checkFormat(r io.ReaderAt, size int64, own bool) error {
	switch runtime.GOOS {
	case "linux", "android", "freebsd", "netbsd", "openbsd", "dragonfly":
		return checkELF(r, uint64(size), runtime.GOARCH, own)
	case "windows":
		return checkPE(r, size, runtime.GOARCH)
	}
	return nil // other formats are checked by their own loader
}
