// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package admit

// Raised says whether this process has privileges that the user who started it lacks. Programs cannot be marked so here.
func Raised() bool { return false }
