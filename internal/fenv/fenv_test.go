// SPDX-License-Identifier: Apache-2.0

package fenv

import (
	"runtime"
	"strings"
	"testing"
)

//go:noinline
func sum(a, b float32) float32 { return a + b }

func TestGuardNoticesAndPutsBack(t *testing.T) {
	if watched == 0 {
		t.Skip("nothing is known of this architecture's control register")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if changed := Guard(func() {
		if sum(0x1p-126, -0x1.8p-126) != -0x1p-127 {
			t.Error("subnormal values are not computed with")
		}
	}); changed != "" {
		t.Errorf("an addition changed %s", changed)
	}
	for _, f := range fields[:3] {
		if f.name == "default NaN" {
			continue
		}
		before := get()
		changed := Guard(func() {
			set(before ^ f.mask)
			if f.name == "flush to zero" && sum(0x1p-126, -0x1.8p-126) != 0 {
				t.Error("flush to zero has no effect")
			}
		})
		if !strings.HasPrefix(changed, f.name) {
			t.Errorf("%s was changed, and reported %q", f.name, changed)
		}
		if get()&watched != before&watched || sum(0x1p-126, -0x1.8p-126) != -0x1p-127 || sum(1, 0x1.8p-24) != 1+0x1p-23 {
			t.Errorf("after %s the register is %#x, was %#x", f.name, uint64(get()), uint64(before))
		}
	}
}
