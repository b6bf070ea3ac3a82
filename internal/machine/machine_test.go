// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"strings"
	"testing"
)

// The note on processors that have AVX without AVX2 stands at avx2, wherever that is in the list.
func TestAVXAloneIsNotedAtAVX2(t *testing.T) {
	for _, c := range []struct{ avx, avx2, noted bool }{{true, false, true}, {true, true, false}, {false, false, false}} {
		levels := []ISA{{Name: "avx512vnni", Reason: "no"}, {Name: "avx512", Reason: "no"}, {Name: "avx2", Available: c.avx2, Reason: "no"}, {Name: "sse42", Available: true}}
		half(levels, c.avx)
		for _, l := range levels {
			if noted := strings.Contains(l.Reason, "AVX alone"); noted != (c.noted && l.Name == "avx2") {
				t.Errorf("%+v: %+v", c, l)
			}
		}
	}
}
