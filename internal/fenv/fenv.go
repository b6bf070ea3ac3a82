// SPDX-License-Identifier: Apache-2.0

// Package fenv keeps foreign code from changing how the processor rounds. Libraries built with -ffast-math turn subnormal values into zeros for the whole
// thread when they are loaded, and results depend on what was loaded then.
package fenv

import (
	"fmt"
	"runtime"
	"strings"
)

// control is the processor's floating-point control register: MXCSR without its sticky flags, or FPCR. 0 on other architectures, where nothing is noticed.
type control uint64

// field is some bits of the register.
type field struct {
	mask control
	name string
}

// Guard calls f on one thread and says what it changed of the thread's floating-point control, in words; "" is nothing. What was changed is put back.
func Guard(f func()) (changed string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := get() & watched
	f()
	after := get() & watched
	if before == after {
		return ""
	}
	set(before)
	var names []string
	for _, x := range fields {
		if (before^after)&x.mask != 0 {
			names = append(names, x.name)
		}
	}
	return fmt.Sprintf("%s (control register %#x, was %#x)", strings.Join(names, ", "), uint64(after), uint64(before))
}
