// SPDX-License-Identifier: Apache-2.0

//go:build unix

package conform

import "syscall"

// guardPages says whether memory lies between pages that cannot be touched.
const guardPages = true

// allocate returns a region of at least n bytes. It panics when the system has no memory left, as make does.
func allocate(n int) region {
	page := syscall.Getpagesize()
	n = (n + page - 1) / page * page
	m, err := syscall.Mmap(-1, 0, n+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err == nil {
		err = syscall.Mprotect(m[:page], syscall.PROT_NONE)
	}
	if err == nil {
		err = syscall.Mprotect(m[page+n:], syscall.PROT_NONE)
	}
	if err != nil {
		panic("conform: no memory: " + err.Error())
	}
	return region{m[page : page+n : page+n], m}
}

func (r region) release() {
	if r.whole != nil {
		syscall.Munmap(r.whole)
	}
}
