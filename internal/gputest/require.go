// SPDX-License-Identifier: Apache-2.0

package gputest

import (
	"os"
	"testing"
)

// NoCUDA skips a test of a CUDA device, or fails it where SETUN_TEST_CUDA is "require": nobody shall take a test that never ran for one that passed.
func NoCUDA(t testing.TB, why any) {
	t.Helper()
	if os.Getenv("SETUN_TEST_CUDA") == "require" {
		t.Fatalf("SETUN_TEST_CUDA wants a device, and there is none: %v", why)
	}
	t.Skipf("not tested with CUDA: %v", why)
}
