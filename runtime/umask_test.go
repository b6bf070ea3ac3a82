// SPDX-License-Identifier: Apache-2.0

//go:build unix

package runtime

import "golang.org/x/sys/unix"

// Tests put libraries into temporary folders, and what others can write is not loaded: whatever the umask, here it is 022.
func init() { unix.Umask(0o022) }
