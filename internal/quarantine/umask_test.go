// SPDX-License-Identifier: Apache-2.0

//go:build unix

package quarantine

import "golang.org/x/sys/unix"

// Tests keep their state in temporary folders, and one that others can write is not believed: whatever the umask, here it is 022.
func init() { unix.Umask(0o022) }
