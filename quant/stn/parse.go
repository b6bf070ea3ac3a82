// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"slices"
	"strings"

	"github.com/setun-compute/setun/internal/strictjson"
)

// parser reads the header, strictly: the known keys, once each, and values of their types. Depth is bounded by the grammar.
type parser struct {
	strictjson.Reader
	begin int64 // of the text in the file
}

func newParser(text []byte, begin int64) *parser {
	p := &parser{begin: begin}
	p.Reader = strictjson.Reader{Text: text, Fail: func(at int, large bool, detail string) error {
		sentinel := ErrFormat
		if large {
			sentinel = ErrLimit
		}
		return p.fail(sentinel, at, "%s", detail)
	}}
	return p
}

func (p *parser) fail(sentinel error, at int, detail string, args ...any) error {
	return fail(sentinel, p.begin+int64(at), detail, args...)
}

// object reads an object of fields: field is called with each key, after the colon. Keys that begin with "x-" may be there for other readers, with a string or a number; they are skipped.
func (p *parser) object(field func(key string, at int) error) error {
	var seen []string
	return p.Object(func(at int, key string) (err error) {
		if strings.HasPrefix(key, "x-") {
			if p.Next() == '"' {
				_, err = p.String()
			} else {
				_, err = p.number()
			}
			return err
		}
		if slices.Contains(seen, key) {
			return p.fail(ErrFormat, at, "key %q is there twice", key)
		}
		seen = append(seen, key) // few: field refuses those that are not known
		return field(key, at)
	})
}

// number reads an integer that every JSON reader keeps exactly.
func (p *parser) number() (int64, error) { return p.Size(1<<53 - 1) }

// header reads the whole header of a file of so many tensors, whose sections end before body.
func (p *parser) header(count int, body int64) (metadata map[string]string, tensors []Info, err error) {
	metadata = map[string]string{}
	tensors = make([]Info, 0, min(count, len(p.Text)/64)) // no tensor takes less of the text
	names := map[string]bool{}
	var hasMetadata, hasTensors bool
	end := int64(prefix)
	err = p.object(func(key string, at int) error {
		switch key {
		case "metadata":
			hasMetadata = true
			return p.metadata(metadata)
		case "tensors":
			hasTensors = true
			return p.Array(func() error {
				p.Next()
				at := p.At
				if len(tensors) == count {
					return p.fail(ErrFormat, at, "more tensors than the %d that the file says it has", count)
				}
				var t Info
				if err := p.tensor(&t, &end, body); err != nil {
					if e, ok := err.(*Error); ok {
						e.Tensor = t.Name
					}
					return err
				}
				if names[t.Name] {
					return p.fail(ErrFormat, at, "two tensors are named %q", t.Name)
				}
				names[t.Name] = true
				tensors = append(tensors, t)
				return nil
			})
		}
		return p.fail(ErrUnsupported, at, "key %q of the header is not known", key)
	})
	if err == nil {
		err = p.End()
	}
	switch {
	case err != nil:
		return nil, nil, err
	case !hasMetadata || !hasTensors:
		return nil, nil, p.fail(ErrFormat, 0, "the header has no metadata, or no tensors")
	case len(tensors) != count:
		return nil, nil, p.fail(ErrFormat, 0, "%d tensors; the file says that it has %d", len(tensors), count)
	case end != body:
		return nil, nil, p.fail(ErrFormat, 0, "the sections end at byte %d, what follows them begins at %d", end, body)
	}
	return metadata, tensors, nil
}

func (p *parser) metadata(m map[string]string) error {
	size := 0
	return p.Object(func(at int, key string) error {
		value, err := p.String()
		if err != nil {
			return err
		}
		if _, twice := m[key]; twice {
			return p.fail(ErrFormat, at, "metadata %q is there twice", key)
		}
		m[key] = value
		if size += len(key) + len(value); size > MaxMetadata || len(m) > MaxKeys {
			return p.fail(ErrLimit, at, "metadata of more than %d bytes or %d keys", MaxMetadata, MaxKeys)
		}
		return nil
	})
}

// tensor reads one entry. end is where the last section ends, rounded up; it is moved on.
func (p *parser) tensor(t *Info, end *int64, body int64) error {
	p.Next()
	begin := p.At
	t.Pack = 1
	var list []Section
	has := map[string]int{} // where the value of each key begins
	err := p.object(func(key string, at int) (err error) {
		p.Next()
		has[key] = p.At
		switch key {
		case "name":
			if t.Name, err = p.String(); err == nil {
				if e := checkName(t.Name); e != nil {
					t.Name = ""
					err = p.fail(e.Err, has[key], "%s", e.Detail)
				}
			}
		case "shape":
			err = p.Array(func() error {
				n, err := p.number()
				if t.Shape = append(t.Shape, n); err == nil && len(t.Shape) > MaxDims {
					err = p.fail(ErrLimit, p.At, "more than %d dimensions", MaxDims)
				}
				return err
			})
			if e := checkShape(t.Shape); e != nil && err == nil {
				err = p.fail(e.Err, has[key], "%s", e.Detail)
			}
		case "kind":
			err = p.word("kind", func(word string) bool { return parseKind(t, word) })
		case "coding":
			err = p.word("coding", func(word string) bool {
				t.Coding = Coding(max(0, slices.Index(codingNames[:], word)))
				return t.Coding != 0
			})
		case "scales":
			err = p.word("kind of scales", func(word string) bool {
				t.ScaleKind = map[string]Kind{"f32": F32, "f16": F16}[word]
				return t.ScaleKind != 0
			})
		case "cols":
			err = p.int(&t.Cols)
		case "group":
			err = p.int(&t.Group)
		case "pack":
			err = p.int(&t.Pack)
		case "sections":
			err = p.sections(&list)
		default:
			err = p.fail(ErrUnsupported, at, "key %q of a tensor is not known", key)
		}
		return err
	})
	if err != nil {
		return err
	}
	return p.relations(t, begin, has, list, end, body)
}

func (p *parser) word(what string, known func(string) bool) error {
	at := p.At
	word, err := p.String()
	if err == nil && (word == "" || !known(word)) {
		err = p.fail(ErrUnsupported, at, "%s %q is not known", what, word[:min(len(word), 64)])
	}
	return err
}

func (p *parser) int(v *int) error {
	at := p.At
	n, err := p.number()
	if err == nil && n > MaxCols {
		err = p.fail(ErrLimit, at, "%d is more than 2^31 - 1", n)
	}
	*v = int(n)
	return err
}

// sections reads pairs of offset and size.
func (p *parser) sections(list *[]Section) error {
	return p.Array(func() error {
		if len(*list) == 3 {
			return p.fail(ErrFormat, p.At, "more than three sections")
		}
		var pair [2]int64
		n := 0
		p.Next()
		at := p.At
		err := p.Array(func() (err error) {
			if n == 2 {
				return p.fail(ErrFormat, p.At, "a section has an offset and a size")
			}
			pair[n], err = p.number()
			n++
			return err
		})
		if err == nil && n < 2 {
			err = p.fail(ErrFormat, at, "a section has an offset and a size")
		}
		*list = append(*list, Section{pair[0], pair[1]})
		return err
	})
}

// relations holds what a tensor's entry says against itself, and its sections against the file.
func (p *parser) relations(t *Info, begin int, has map[string]int, list []Section, end *int64, body int64) error {
	keys := []string{"name", "shape", "kind", "sections"}
	if t.Kind == Quantized {
		keys = append(keys, "coding", "cols", "group", "scales")
		if t.Coding == RANS {
			keys = append(keys, "pack")
		}
	}
	for _, key := range keys {
		if _, ok := has[key]; !ok {
			return p.fail(ErrFormat, begin, "the entry has no %s", key)
		}
	}
	if len(has) != len(keys) {
		return p.fail(ErrFormat, begin, "the entry has keys that do not belong to its kind and coding")
	}
	if t.Kind == Quantized {
		t.Rows = int(t.Values() / int64(max(1, t.Cols)))
		if e := t.check(); e != nil {
			return p.fail(e.Err, begin, "%s", e.Detail)
		}
	}
	own := t.sections()
	if len(list) != len(own) {
		return p.fail(ErrFormat, has["sections"], "%d sections; %d are expected", len(list), len(own))
	}
	for i, s := range list {
		if s.Offset != *end || s.Size < 1 || s.Size > body-s.Offset {
			return p.fail(ErrFormat, has["sections"], "section %d is said to have %d bytes from byte %d on; it must begin at %d and end before %d", i, s.Size, s.Offset, *end, body)
		}
		*own[i] = s
		*end = aligned(s.end())
	}
	if t.Kind != Quantized {
		if n := t.Values() * t.Kind.size(); t.Codes.Size != n {
			return p.fail(ErrFormat, has["sections"], "%d bytes of values; %d are expected", t.Codes.Size, n)
		}
		return nil
	}
	if e := t.checkSizes(); e != nil {
		return p.fail(e.Err, has["sections"], "%s", e.Detail)
	}
	return nil
}
