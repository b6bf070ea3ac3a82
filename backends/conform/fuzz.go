// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"context"
	"testing"

	"github.com/setun-compute/setun/backends"
)

// Fuzz is the body of a fuzz target for one op: shape, options and values are drawn from the fuzzer's bytes, and every arm is held against pure Go.
func Fuzz(f *testing.F, op backends.Op, arms []Arm) {
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Verify(context.Background(), arms, Options{Ops: []backends.Op{op}, bytes: append([]byte{}, b...)})
		if err != nil {
			t.Fatal(err)
		}
		for _, failure := range r.Failures {
			t.Error(failure)
		}
	})
}
