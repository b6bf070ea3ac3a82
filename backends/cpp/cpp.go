// SPDX-License-Identifier: Apache-2.0

// Package cpp binds the threaded C++ library, native/cpp: the ops of simd_c, shared among the threads of a pool of its own.
//
// A kernel is an instruction set level and a number of threads: "avx512x2". The dispatcher learns from which size on each number pays. All give
// the same bits.
package cpp

import (
	"strings"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/plugin"
)

// Name is the backend's name and the stem of its file name.
const Name = "cpp"

// Open loads the library from the first of the places that has it. level keeps one instruction set level; empty takes the best that the machine has. Of
// the numbers of threads it keeps those that keep accepts. The backend is nil when nothing was loaded.
func Open(places []plugin.Place, level string, keep func(threads int) bool) (backends.Backend, []plugin.Attempt) {
	b, tried := plugin.Load(Name, places)
	if b == nil {
		return nil, tried // not a nil *plugin.Backend in an interface
	}
	b.Restrict(Uses(b.Kernels(), level, keep))
	last := &tried[len(tried)-1]
	last.Kernels = last.Kernels[:0]
	for _, k := range b.Kernels() {
		last.Kernels = append(last.Kernels, k.Op.String()+"/"+k.Name)
	}
	return b, tried
}

// Uses tells which of a library's kernels Open keeps.
func Uses(all []backends.Kernel, level string, keep func(threads int) bool) func(k backends.Kernel) bool {
	best := map[backends.Op]string{}
	for _, k := range all {
		if best[k.Op] == "" { // the library lists the best level first
			best[k.Op] = Level(k)
		}
	}
	return func(k backends.Kernel) bool {
		ok := Level(k) == level
		if level == "" {
			ok = strings.HasPrefix(best[k.Op], Level(k)) // avx512vnni is another way of avx512: the data says which is faster
		}
		return ok && keep(k.Threads)
	}
}

// Level returns the instruction set level of a kernel: its name without the number of threads.
func Level(k backends.Kernel) string {
	return strings.TrimRight(strings.TrimRight(k.Name, "0123456789"), "x")
}

// Useful accepts powers of two from 2 up to the number of cores, and the greatest number that the library has within it: one thread is simd_c's, and
// arms close to each other would only make the choice slower.
func Useful(cores int) func(threads int) bool {
	return func(threads int) bool {
		return threads > 1 && threads <= cores && (threads&(threads-1) == 0 || threads*4 > cores*3)
	}
}
