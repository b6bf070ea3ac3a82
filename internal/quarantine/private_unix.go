// SPDX-License-Identifier: Apache-2.0

//go:build unix

package quarantine

import (
	"fmt"
	"os"
	"syscall"
)

// private refuses a folder that others can write: they could lift what is quarantined, and say that a library was probed.
func private(folder string, info os.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return nil
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d", folder, st.Uid)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written by others (mode %04o): chmod go-w %s", folder, info.Mode().Perm(), folder)
	}
	return nil
}
