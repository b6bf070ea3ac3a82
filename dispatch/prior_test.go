// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"testing"

	"github.com/setun-compute/setun/backends"
)

// Before anything is measured a device is taken to be faster than a core at the ops between products of long operands, and slower at those of short ones, copies aside.
func TestPriorOfADevice(t *testing.T) {
	shapes := func(rows int) []Shape {
		var list []Shape
		for _, gradient := range []bool{false, true} {
			list = append(list, RMSNorm(rows, 512, gradient), Softmax(rows, 512, 64, gradient), Activate(backends.ReLU2, rows, 512, gradient), Activate(backends.SwiGLU, rows, 512, gradient))
		}
		return append(list, Update(backends.AdamW, rows*512), Update(backends.Momentum, rows*512))
	}
	core, device := Arm{Backend: "simd_c", Kernel: "avx512", Threads: 1}, Arm{Backend: "cuda", Kernel: "cuda", Threads: 1, Memory: 1}
	h := Hardware{Cores: 16, L3: 32 << 20}
	for rows, deviceWins := range map[int]bool{1: false, 64 << 10: true} {
		for _, s := range shapes(rows) {
			host, dev := h.Prior(s.Op, core), h.Prior(s.Op, device)
			if a, b := host.Predict(s).Nanos, dev.Predict(s).Nanos; !(a > 0) || !(b > 0) || b < a != deviceWins {
				t.Errorf("%v %s: %.0f ns on a core, %.0f on a device", s.Op, s.String(), a, b)
			}
		}
	}
}
