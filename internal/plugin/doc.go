// SPDX-License-Identifier: Apache-2.0

// Package plugin is the only door to foreign code. It finds a shared library, checks the file, loads it, shakes hands
// as native/include/setun/backend.h says, and binds its kernels as a [Backend].
//
// Libraries are opened by absolute path, once, and never unloaded: their threads and thread-local state could not survive it.
// Nothing is looked for in the current directory, extracted or downloaded. Whatever was tried is told by an [Attempt].
//
// A call costs one pooled argument block and no allocation: purego.SyscallN with two words, about 100 ns.
package plugin
