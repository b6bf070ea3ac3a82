// SPDX-License-Identifier: Apache-2.0

package jsonbound

import "testing"

func TestCommas(t *testing.T) {
	for text, want := range map[string]int{
		``: 0, `[1,2,3]`: 2, `{"a,b":",","c":[]}`: 1, `["\",",1]`: 1, `["\\",1,2]`: 2, `["\`: 0, `[{},{}]`: 1, `"`: 0, `,",`: 1, `[[1,2],[3,4]]`: 3,
	} {
		if got := Commas([]byte(text)); got != want {
			t.Errorf("%s: %d, not %d", text, got, want)
		}
	}
}
