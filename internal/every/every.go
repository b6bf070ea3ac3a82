// SPDX-License-Identifier: Apache-2.0

// Package every opens all kernels of this machine, also those that the runtime never chooses, so that they can be verified.
package every

import (
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/blas"
	"github.com/setun-compute/setun/backends/conform"
	"github.com/setun-compute/setun/backends/cpp"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/backends/cuda"
	simdc "github.com/setun-compute/setun/backends/simd_c"
	"github.com/setun-compute/setun/internal/admit"
	"github.com/setun-compute/setun/internal/plugin"
)

// Levels are the instruction set levels that any machine may have, best first.
func Levels() []string {
	return []string{"avx512vbmi", "avx512vnni", "avx512", "avx2", "sse42", "neondot", "neon", "scalar"}
}

// threads are the numbers of threads at which the best level is tried, more of them than cores too.
var threads = []int{1, 2, 3, 7, 16}

// Set is what was opened.
type Set struct {
	Arms     []conform.Arm
	Tried    []plugin.Attempt // one for each backend
	backends []backends.Backend
}

// Open opens pure Go, gonum, and from the given places the native libraries: the C kernels of every level, the C++ ones of the best level with 1, 2, 3, 7 and
// 16 threads, of the others with 3; and the first CUDA device, unless one level is asked for. level keeps one level alone; empty: all. system is the choice of a BLAS as the blas package reads it, and cublas that of cuBLAS as the cuda package does.
func Open(places []plugin.Place, level, system, cublas string) *Set {
	s := new(Set)
	s.add(cpu.Backend{}, nil)
	s.add(cpu.Gonum{}, nil)
	levels := Levels()
	if level != "" {
		levels = []string{level}
	}
	for i, l := range levels {
		b, tried := simdc.Open(places, l)
		if i > 0 {
			tried = nil // the same file again
		}
		s.add(b, tried)
	}
	s.add(cpp.Open(places, level, func(n int) bool { return slices.Contains(threads, n) }))
	for _, l := range levels {
		b, _ := cpp.Open(places, l, func(n int) bool { return n == 3 })
		s.add(b, nil)
	}
	if level == "" {
		devices, tried := cuda.Open(places, []int{0}, cuda.Fast{Wanted: true, CUBLAS: cublas})
		s.Tried = append(s.Tried, tried...)
		for _, b := range devices {
			s.add(b, nil)
		}
	}
	for _, p := range plugin.Listed(admit.Getenv(plugin.FilesVariable)) {
		if b, tried := plugin.Load(plugin.Stem(p.Path), []plugin.Place{p}); b != nil {
			s.add(b, tried)
		} else {
			s.add(nil, tried)
		}
	}
	if b, tried := blas.Open(system, nil); b != nil {
		s.add(b, tried)
	} else {
		s.add(nil, tried) // not a nil *blas.Backend in an interface
	}
	return s
}

// add takes the kernels of b that are not there yet.
func (s *Set) add(b backends.Backend, tried []plugin.Attempt) {
	s.Tried = append(s.Tried, tried...)
	if b == nil {
		return
	}
	s.backends = append(s.backends, b)
	for _, a := range conform.Arms(b) {
		if !slices.ContainsFunc(s.Arms, func(o conform.Arm) bool { return o.Kernel.Op == a.Kernel.Op && o.String() == a.String() }) {
			s.Arms = append(s.Arms, a)
		}
	}
}

// Close ends the backends. The arms must not be used afterwards.
func (s *Set) Close() {
	for _, b := range s.backends {
		b.Close()
	}
}
