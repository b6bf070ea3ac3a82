// SPDX-License-Identifier: Apache-2.0

package safetensors

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep values that are skipped may be nested.
const maxDepth = 16

// parser reads the little JSON that headers and indexes are made of, strictly: encoding/json would take the second of two equal names, and keeps no offsets.
type parser struct {
	text []byte
	at   int
	base int   // the text's offset in the file
	bad  error // the sentinel of its errors
}

func (p *parser) fail(at int, detail string, args ...any) *Error {
	return fail(p.bad, p.base+at, detail, args...)
}

// space skips white space and returns the next byte, 0 at the end.
func (p *parser) space() byte {
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// eat takes c if it comes next.
func (p *parser) eat(c byte) bool {
	if p.space() != c || p.at == len(p.text) {
		return false
	}
	p.at++
	return true
}

func (p *parser) need(c byte) *Error {
	if !p.eat(c) {
		return p.fail(p.at, "%q is missing", c)
	}
	return nil
}

// object reads an object; f reads the value of each name. Equal names are f's to find.
func (p *parser) object(f func(at int, name string) *Error) *Error {
	if err := p.need('{'); err != nil {
		return err
	}
	for n := 0; !p.eat('}'); n++ {
		if n > 0 {
			if err := p.need(','); err != nil {
				return err
			}
		}
		p.space()
		at := p.at
		name, err := p.string()
		if err == nil {
			err = p.need(':')
		}
		if err == nil {
			err = f(at, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// array reads an array; f reads each value.
func (p *parser) array(f func() *Error) *Error {
	if err := p.need('['); err != nil {
		return err
	}
	for n := 0; !p.eat(']'); n++ {
		if n > 0 {
			if err := p.need(','); err != nil {
				return err
			}
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) string() (string, *Error) {
	if p.space() != '"' {
		return "", p.fail(p.at, "a string is missing")
	}
	begin, escaped := p.at, false
	for i := begin + 1; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c < ' ':
			return "", p.fail(i, "byte %#02x in a string", c)
		case c == '\\':
			escaped = true
			i++
		case c == '"':
			raw := p.text[begin : i+1]
			p.at = i + 1
			if !utf8.Valid(raw) {
				return "", p.fail(begin, "a string that is not UTF-8")
			}
			if !escaped {
				return string(raw[1 : len(raw)-1]), nil
			}
			var s string
			if json.Unmarshal(raw, &s) != nil || strings.Count(s, "\ufffd") > bytes.Count(raw, []byte("\ufffd"))+strings.Count(strings.ToLower(string(raw)), `\ufffd`) {
				return "", p.fail(begin, "a string with escapes that are not JSON's") // half of a surrogate pair is no character either
			}
			return s, nil
		}
	}
	return "", p.fail(begin, "a string does not end")
}

// size reads a number that is a size: digits only, without leading zeros.
func (p *parser) size() (int64, *Error) {
	p.space()
	at, n := p.at, int64(0)
	for ; p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9'; p.at++ {
		digit := int64(p.text[p.at] - '0')
		if n > (math.MaxInt64-digit)/10 {
			return 0, p.fail(at, "a number too large")
		}
		n = 10*n + digit
	}
	if p.at == at || p.at > at+1 && p.text[at] == '0' {
		return 0, p.fail(at, "a size is missing: digits")
	}
	return n, nil
}

// skip walks over a value of any kind.
func (p *parser) skip(depth int) *Error {
	switch c := p.space(); {
	case depth == 0:
		return p.fail(p.at, "values nested deeper than %d", maxDepth)
	case c == '{':
		return p.object(func(int, string) *Error { return p.skip(depth - 1) })
	case c == '[':
		return p.array(func() *Error { return p.skip(depth - 1) })
	case c == '"':
		_, err := p.string()
		return err
	}
	at := p.at
	for p.at < len(p.text) && strings.IndexByte("+-.0123456789Eaeflnrstu", p.text[p.at]) >= 0 { // of numbers, true, false and null
		p.at++
	}
	if !json.Valid(p.text[at:p.at]) {
		return p.fail(at, "a value is missing")
	}
	return nil
}

// end checks that only white space follows.
func (p *parser) end() *Error {
	if p.space(); p.at < len(p.text) {
		return p.fail(p.at, "something follows the JSON object")
	}
	return nil
}
