// SPDX-License-Identifier: Apache-2.0

// Package strictjson reads the JSON of file headers, value by value, and says where in the text something is wrong. encoding/json would take the second of two equal names, or a name in other
// letters, and keeps no offsets. What names there may be, and that none is there twice, is for the caller.
package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Depth is how deep values that are skipped may be nested.
const Depth = 16

// Reader reads a text from At on.
type Reader struct {
	Text []byte
	At   int
	// Fail makes the error for a place in the text; large: a number is too large, else it is not the JSON that it should be.
	Fail func(at int, large bool, detail string) error
}

func (r *Reader) bad(at int, detail string, args ...any) error {
	return r.Fail(at, false, fmt.Sprintf(detail, args...))
}

// Next skips white space and returns the byte that comes next, 0 at the end.
func (r *Reader) Next() byte {
	for ; r.At < len(r.Text); r.At++ {
		switch c := r.Text[r.At]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// eat takes c if it comes next.
func (r *Reader) eat(c byte) bool {
	if r.Next() != c || r.At == len(r.Text) {
		return false
	}
	r.At++
	return true
}

func (r *Reader) need(c byte) error {
	if !r.eat(c) {
		return r.bad(r.At, "%q is missing", c)
	}
	return nil
}

// list reads what stands between two brackets, separated by commas.
func (r *Reader) list(open, shut byte, item func() error) error {
	if err := r.need(open); err != nil {
		return err
	}
	for first := true; !r.eat(shut); first = false {
		if !first {
			if err := r.need(','); err != nil {
				return err
			}
		}
		if err := item(); err != nil {
			return err
		}
	}
	return nil
}

// Object reads an object; field reads the value of each name, which begins at a place. Equal names are its to find.
func (r *Reader) Object(field func(at int, name string) error) error {
	return r.list('{', '}', func() error {
		r.Next()
		at := r.At
		name, err := r.String()
		if err == nil {
			err = r.need(':')
		}
		if err != nil {
			return err
		}
		return field(at, name)
	})
}

// Array reads an array; item reads each value.
func (r *Reader) Array(item func() error) error { return r.list('[', ']', item) }

// String reads a string: UTF-8, in which an escape is a character.
func (r *Reader) String() (string, error) {
	if r.Next() != '"' {
		return "", r.bad(r.At, "a string is missing")
	}
	begin, escaped, replaced := r.At, false, 0 // escapes of U+FFFD
	for i := begin + 1; i < len(r.Text); i++ {
		switch c := r.Text[i]; {
		case c < ' ':
			return "", r.bad(i, "byte %#02x in a string", c)
		case c == '\\':
			escaped = true
			if len(r.Text) > i+5 && strings.EqualFold(string(r.Text[i+1:i+6]), "ufffd") {
				replaced++
			}
			i++
		case c == '"':
			raw := r.Text[begin : i+1]
			r.At = i + 1
			if !utf8.Valid(raw) {
				return "", r.bad(begin, "a string that is not UTF-8")
			}
			if !escaped {
				return string(raw[1 : len(raw)-1]), nil
			}
			var s string
			if json.Unmarshal(raw, &s) != nil || strings.Count(s, "\ufffd") > bytes.Count(raw, []byte("\ufffd"))+replaced {
				return "", r.bad(begin, "a string with escapes that are not JSON's") // half of a surrogate pair is no character either
			}
			return s, nil
		}
	}
	return "", r.bad(begin, "a string does not end")
}

// Size reads a number from 0 to most: digits alone, without leading zeros.
func (r *Reader) Size(most int64) (int64, error) {
	r.Next()
	at, n := r.At, int64(0)
	for ; r.At < len(r.Text) && r.Text[r.At] >= '0' && r.Text[r.At] <= '9'; r.At++ {
		digit := int64(r.Text[r.At] - '0')
		if n > (most-digit)/10 {
			return 0, r.Fail(at, true, fmt.Sprintf("a number greater than %d", most))
		}
		n = 10*n + digit
	}
	if r.At == at || r.At > at+1 && r.Text[at] == '0' {
		return 0, r.bad(at, "a size is missing: digits, of which the first of several is not 0")
	}
	return n, nil
}

// Skip walks over a value of any kind.
func (r *Reader) Skip() error { return r.skip(Depth) }

func (r *Reader) skip(depth int) error {
	switch c := r.Next(); {
	case depth == 0:
		return r.bad(r.At, "values nested deeper than %d", Depth)
	case c == '{':
		return r.Object(func(int, string) error { return r.skip(depth - 1) })
	case c == '[':
		return r.Array(func() error { return r.skip(depth - 1) })
	case c == '"':
		_, err := r.String()
		return err
	}
	at := r.At
	for r.At < len(r.Text) && strings.IndexByte("+-.0123456789Eaeflnrstu", r.Text[r.At]) >= 0 { // of numbers, true, false and null
		r.At++
	}
	if !json.Valid(r.Text[at:r.At]) {
		return r.bad(at, "a value is missing")
	}
	return nil
}

// End checks that only white space follows.
func (r *Reader) End() error {
	if r.Next(); r.At < len(r.Text) {
		return r.bad(r.At, "something follows the JSON object")
	}
	return nil
}
