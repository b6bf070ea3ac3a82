// SPDX-License-Identifier: Apache-2.0

package safetensors

import (
	"fmt"

	"github.com/setun-compute/setun/internal/strictjson"
)

// parser reads the JSON of headers and indexes. Its errors are this package's.
type parser struct {
	strictjson.Reader
	base int   // the text's offset in the file
	bad  error // the sentinel of its errors
}

func newParser(text []byte, base int, bad error) *parser {
	p := &parser{base: base, bad: bad}
	p.Reader = strictjson.Reader{Text: text, Fail: func(at int, _ bool, detail string) error { return fail(bad, base+at, "%s", detail) }}
	return p
}

func (p *parser) fail(at int, detail string, args ...any) error {
	return p.Fail(at, false, fmt.Sprintf(detail, args...))
}
