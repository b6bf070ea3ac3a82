// SPDX-License-Identifier: Apache-2.0

package admit

import "golang.org/x/sys/unix"

// folderFlags open a folder to reach what is in it, which needs no right to list it.
const folderFlags = unix.O_PATH
