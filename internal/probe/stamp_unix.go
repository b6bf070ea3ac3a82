// SPDX-License-Identifier: Apache-2.0

//go:build unix

package probe

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// stamp tells one content of a file or folder from the next, and a file from another one that took its name, without reading it; it is empty where there is none. The time of modification can be set,
// as by cp -p, that of change cannot.
func stamp(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return ""
	}
	return fmt.Sprintf("%d %d %d %d %d", st.Dev, st.Ino, st.Size, unix.TimespecToNsec(st.Mtim), unix.TimespecToNsec(st.Ctim))
}
