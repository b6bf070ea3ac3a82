// SPDX-License-Identifier: Apache-2.0

package strictjson

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// reader is one whose errors say where.
func reader(text string) *Reader {
	return &Reader{Text: []byte(text), Fail: func(at int, large bool, detail string) error { return fmt.Errorf("%d: %s (%v)", at, detail, large) }}
}

// skipped reads a whole text.
func skipped(text string) error {
	r := reader(text)
	err := r.Skip()
	if err == nil {
		err = r.End()
	}
	return err
}

// What is skipped is JSON, of a depth that is bounded; encoding/json says the same of it.
func FuzzSkip(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e3,true,null,"x\n\ud83d\ude00"],"b":{}}`, ` [ ] `, `{"a":1,}`, `[1 2]`, `"\ud800"`, `"\ufffd"`, "\"\xff\"", "\"\x01\"", `01`, `truefalse`, `{"a"}`, `"`, ``, strings.Repeat("[", 40)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err, valid := skipped(text), json.Valid([]byte(text))
		if err == nil && !valid {
			t.Errorf("%q is no JSON", text)
		}
		if err != nil && valid && !strings.Contains(err.Error(), "deeper") && !strings.Contains(err.Error(), "escapes") && !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func TestPlaces(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":1,}`:                 `7: a string is missing (false)`,
		`{"a" 1}`:                  `5: ':' is missing (false)`,
		`[1 2]`:                    `3: ',' is missing (false)`,
		`[1,]`:                     `3: a value is missing (false)`,
		"[\"\x02\"]":               `2: byte 0x02 in a string (false)`,
		`["\ud800"]`:               `1: a string with escapes that are not JSON's (false)`,
		`["\\ufffd\ud800"]`:        `1: a string with escapes that are not JSON's (false)`,
		`["abc`:                    `1: a string does not end (false)`,
		`{} {}`:                    `3: something follows the JSON object (false)`,
		strings.Repeat("[", 17):    `16: values nested deeper than 16 (false)`,
		`["\ufffd", "\\", "\u0041`: `17: a string does not end (false)`,
	} {
		if err := skipped(text); err == nil || err.Error() != want {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
	if err := skipped(`{"a":["\uFFFD\\ufffd�",1.5e3,{"b":null}]}`); err != nil {
		t.Error(err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]string{" 12,": "12 <nil>", "0": "0 <nil>", "99": "99 <nil>", "100": "0 0: a number greater than 99 (true)", "01": "0 0: a size is missing: digits, of which the first of several is not 0 (false)",
		"-1": "0 0: a size is missing: digits, of which the first of several is not 0 (false)", "": "0 0: a size is missing: digits, of which the first of several is not 0 (false)"} {
		n, err := reader(text).Size(99)
		if got := fmt.Sprint(n, " ", err); got != want {
			t.Errorf("%q: %s; want %s", text, got, want)
		}
	}
}
