// SPDX-License-Identifier: Apache-2.0

// Package simdc binds the C library with SIMD kernels, native/simd_c. The folder is called simd_c; Go package names have no underscore.
//
// Each instruction set level that the machine has (avx512vbmi, avx512vnni, avx512, avx2, sse42, neondot, neon, and the portable scalar reference) is a kernel
// of its own, so the dispatcher learns which is fastest for a size. All give the same bits.
package simdc

import (
	"fmt"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/plugin"
)

// Name is the backend's name and the stem of its file name.
const Name = "simd_c"

// ForceVariable is the environment variable that keeps one instruction set level: "avx512vbmi" (packed codes alone), "avx512vnni" (those and k-means), "avx512", "avx2", "sse42", "neondot" (packed codes alone), "neon" or "scalar".
const ForceVariable = "SETUN_FORCE_ISA"

// Open loads the library from the first of the places that has it. force keeps the kernels of one level; empty keeps them
// all except the scalar reference, which exists to be compared with. The backend is nil when nothing was loaded.
func Open(places []plugin.Place, force string) (backends.Backend, []plugin.Attempt) {
	b, tried := plugin.Load(Name, places)
	if b == nil {
		return nil, tried
	}
	all := len(b.Kernels())
	b.Restrict(Uses(force))
	last := &tried[len(tried)-1]
	if last.Kernels = last.Kernels[:0]; all > 0 && len(b.Kernels()) == 0 {
		last.Reason = fmt.Sprintf("the library has no kernels for %s = %q on this machine", ForceVariable, force)
	}
	for _, k := range b.Kernels() {
		last.Kernels = append(last.Kernels, k.Op.String()+"/"+k.Name)
	}
	return b, tried
}

// Uses tells which kernels Open keeps.
func Uses(force string) func(k backends.Kernel) bool {
	return func(k backends.Kernel) bool {
		if force == "" {
			return k.Name != "scalar"
		}
		return k.Name == force
	}
}
