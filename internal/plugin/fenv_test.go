// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package plugin

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
)

//go:noinline
func half(x float32) float32 { return x / 2 }

//go:noinline
func inverse(x float32) float32 { return 1 / x }

// TestChangedFloatEnvironment loads libraries that change how the thread rounds or treats subnormal values. They are refused with what they did, and the thread is as before.
func TestChangedFloatEnvironment(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	constructor := tiny + "\n#include <fenv.h>\n__attribute__((constructor)) static void up(void) { fesetround(FE_UPWARD); }\n"
	for _, c := range []struct {
		name, path, reason string
		state              State
	}{
		{"built with -ffast-math", build(t, tiny, append(arguments(), "-ffast-math")...), "flush to zero", Refused},
		{"a constructor that rounds up", build(t, constructor, append(arguments(), "-Wl,--no-as-needed", "-lm")...), "rounding mode", Refused},
		{"an entry that rounds up", build(t, tiny, append(arguments("TABLE", "(fesetround(FE_UPWARD), &table)"), "-include", "fenv.h", "-Wl,--no-as-needed", "-lm")...), "rounding mode", Failed},
	} {
		b, tried := Load("tiny", []Place{{Path: c.path, File: true}})
		if got := tried[0]; b != nil || got.State != c.state || !errors.Is(got.Err, backends.ErrLibrary) || !strings.Contains(got.Reason, c.reason) {
			t.Errorf("%s: %+v", c.name, got)
		}
		if b, tried := Load("tiny", []Place{{Path: c.path, File: true}}); b != nil || tried[0].State != c.state {
			t.Errorf("%s, tried again: %+v", c.name, tried[0])
		}
		if c.state == Refused && !strings.Contains(tried[0].Reason, "-ffast-math") {
			t.Errorf("%s: %q does not say what to do", c.name, tried[0].Reason)
		}
		if half(0x1p-126) != 0x1p-127 || inverse(3) != 0x1.555556p-2 || inverse(-3) != -0x1.555556p-2 {
			t.Errorf("%s: the thread computes otherwise now", c.name)
		}
	}
}
