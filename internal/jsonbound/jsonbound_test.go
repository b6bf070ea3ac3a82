// SPDX-License-Identifier: Apache-2.0

package jsonbound

import (
	"encoding/json"
	"testing"
)

func TestCommas(t *testing.T) {
	for text, want := range map[string]int{
		``: 0, `[1,2,3]`: 2, `{"a,b":",","c":[]}`: 1, `["\",",1]`: 1, `["\\",1,2]`: 2, `["\`: 0, `[{},{}]`: 1, `"`: 0, `,",`: 1, `[[1,2],[3,4]]`: 3,
	} {
		if got := Commas([]byte(text)); got != want {
			t.Errorf("%s: %d, not %d", text, got, want)
		}
	}
}

// FuzzCommas: no list or object of a text that is JSON has more elements than were counted.
func FuzzCommas(f *testing.F) {
	for _, text := range []string{`[1,2,3]`, `{"a,b":",","c":[]}`, `["\",",1,{"\\":[[],[{}]]}]`, `"\u002c,"`, `[`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n := Commas(text)
		var v any
		if json.Unmarshal(text, &v) != nil {
			return
		}
		var further func(v any) int // elements beyond the first of each list and object
		further = func(v any) (sum int) {
			switch v := v.(type) {
			case []any:
				sum = max(0, len(v)-1)
				for _, e := range v {
					sum += further(e)
				}
			case map[string]any: // a key may be there twice, and counts once
				sum = max(0, len(v)-1)
				for _, e := range v {
					sum += further(e)
				}
			}
			return sum
		}
		if has := further(v); has > n {
			t.Fatalf("%d commas in %q, which has %d further elements", n, text, has)
		}
	})
}
