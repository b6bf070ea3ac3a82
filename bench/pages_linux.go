// SPDX-License-Identifier: Apache-2.0

package main

import (
	"syscall"
	"unsafe"
)

// pages returns n values on huge pages where the system has them, as NumPy and the C loops ask for too: on small ones address translation would be
// part of the comparison. It is never given back.
func pages[E int8 | byte | float32](n int) []E {
	var e E
	b, err := syscall.Mmap(-1, 0, max(1, n)*int(unsafe.Sizeof(e)), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return make([]E, n)
	}
	_ = syscall.Madvise(b, syscall.MADV_HUGEPAGE) // a wish: without it the pages are small
	return unsafe.Slice((*E)(unsafe.Pointer(unsafe.SliceData(b))), n)
}
