// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package admit

import "golang.org/x/sys/unix"

// folderFlags open a folder to reach what is in it.
const folderFlags = unix.O_RDONLY
