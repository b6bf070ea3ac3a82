// SPDX-License-Identifier: Apache-2.0

//go:build linux

package runtime

import (
	"fmt"
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// A library's n-th call fails, or has no memory, for n = 1, 2, … until none does any more: every call is answered rightly, and that one by the next best kernel.
func TestF15F16NthCallFails(t *testing.T) {
	const calls, kernel, op = 4, "simd_c/avx2", backends.OpActivations
	for _, status := range []string{"SETUN_EDEVICE", "SETUN_ENOMEM"} {
		n := 1
		for clean := false; !clean; n++ {
			r := newRogue(t, "CALL_NTH", fmt.Sprint("-DNTH=", n), "-DSTATUS="+status)
			rt, _ := r.open(t, WithoutProbe(), WithoutLearning(), WithRecheck(0))
			arm := slices.IndexFunc(rt.Arms(op), func(a dispatch.Arm) bool { return a.String() == kernel })
			if arm < 0 {
				t.Fatalf("no kernel %s: %v", kernel, rt.Arms(op))
			}
			choose(t, rt, op, arm)
			for range calls {
				rt.arms[op][arm].condition.retry.Store(0) // its rest, without waiting
				answers(t, rt)
			}
			m := rt.healthOf(t, kernel)
			clean = m.Fallbacks == 0
			if m.Calls != calls || m.Fallbacks > 1 || clean != (n > calls) {
				t.Fatalf("%s in call %d: %+v", status, n, m)
			}
		}
	}
}
