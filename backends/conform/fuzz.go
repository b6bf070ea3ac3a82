// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"context"
	"testing"

	"github.com/setun-compute/setun/backends"
)

// Fuzz is the body of a fuzz target for one op: shape, options and values are drawn from the fuzzer's bytes, and every arm is held against pure Go. Memory is kept from one case to the next.
func Fuzz(f *testing.F, op backends.Op, arms []Arm) {
	s := newSuite(context.Background(), op, arms, Options{})
	s.outside = true
	f.Cleanup(s.memory.free)
	random := s.cases().random
	f.Fuzz(func(t *testing.T, b []byte) {
		d := drawsFrom(b)
		s.turn = d.r.IntN(2 * line) // the case decides how it lies in memory, so that it comes back
		random(d)
		for _, a := range append(s.arms, s.fast...) {
			if a.failure != "" {
				t.Errorf("%s on %s: %s", op, a, a.failure)
				a.failure = ""
			}
		}
	})
}
