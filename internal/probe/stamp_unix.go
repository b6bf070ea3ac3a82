// SPDX-License-Identifier: Apache-2.0

//go:build unix

package probe

import (
	"fmt"
	"os"
	"syscall"
)

// place tells a file from another one that took its name.
func place(info os.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d %d", st.Dev, st.Ino)
}
