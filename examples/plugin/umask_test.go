// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import "golang.org/x/sys/unix"

// Libraries of tests lie in temporary folders, and one that others can write is not loaded from: whatever the umask, here it is 022.
func init() { unix.Umask(0o022) }
