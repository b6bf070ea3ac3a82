// SPDX-License-Identifier: Apache-2.0

package safetensors

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/setun-compute/setun/internal/durable"
)

// Tensor is what Write takes: float32 values of a shape, row-major.
type Tensor struct {
	Name   string
	Shape  []int // empty for a scalar
	Values []float32
}

// alignment of the data in a file, so that a mapping can be used as it is. Readers take any.
const alignment = 64

// Write writes tensors as F32, in this order, to a file that is whole or not there; see durable.Write. metadata becomes the header's __metadata__ when it is not empty; some
// programs ask for {"format": "pt"}. The same arguments give the same bytes.
//
// Errors: ErrPlan for names that are empty, there twice or no text, and for shapes that are not those of the values; those of the file system.
func Write(path string, tensors []Tensor, metadata map[string]string) error {
	return writeIn(durable.Files{}, path, tensors, metadata)
}

func writeIn(files durable.Files, path string, tensors []Tensor, metadata map[string]string) error {
	header, err := plan(tensors, metadata)
	if err != nil {
		return at(err, path)
	}
	return files.Write(path, 0o644, func(w io.Writer) error {
		if _, err := w.Write(header); err != nil {
			return err
		}
		const chunk = 1 << 16 // values
		var buffer []byte
		for _, t := range tensors {
			for part := range slices.Chunk(t.Values, chunk) {
				var err error
				if buffer, err = binary.Append(buffer[:0], binary.LittleEndian, part); err != nil {
					return err
				}
				if _, err := w.Write(buffer); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// plan makes the header, its length and padding included. It is read back with the checks of a reader.
func plan(tensors []Tensor, metadata map[string]string) ([]byte, error) {
	b := append(make([]byte, 8), '{')
	if len(metadata) > 0 {
		for k, v := range metadata { // which json would repair in silence
			if !utf8.ValidString(k) || !utf8.ValidString(v) {
				return nil, fail(ErrPlan, len(b), "the metadata %q: %q is not UTF-8", k, v)
			}
		}
		text, err := json.Marshal(metadata) // in the order of the names
		if err != nil {
			return nil, fail(ErrPlan, len(b), "its metadata: %v", err)
		}
		b = append(append(b, `"__metadata__":`...), text...)
	}
	next := int64(0)
	for _, t := range tensors {
		if n, ok := product(t.Shape); !ok || n != len(t.Values) || slices.ContainsFunc(t.Shape, func(n int) bool { return n < 0 }) {
			return nil, fail(ErrPlan, len(b), "%d values have not the shape %v", len(t.Values), t.Shape).about(t.Name)
		}
		if t.Name == "" || t.Name == "__metadata__" || !utf8.ValidString(t.Name) {
			return nil, fail(ErrPlan, len(b), "the name %q is not one of a tensor", t.Name)
		}
		name, err := json.Marshal(t.Name)
		if err != nil {
			return nil, fail(ErrPlan, len(b), "the name %q: %v", t.Name, err)
		}
		if len(b) > 9 {
			b = append(b, ',')
		}
		begin := next
		next += 4 * int64(len(t.Values))
		b = fmt.Appendf(b, `%s:{"dtype":"F32","shape":[`, name)
		for i, n := range t.Shape {
			if i > 0 {
				b = append(b, ',')
			}
			b = fmt.Append(b, n)
		}
		b = fmt.Appendf(b, `],"data_offsets":[%d,%d]}`, begin, next)
	}
	b = append(b, '}')
	for len(b)%alignment != 0 {
		b = append(b, ' ')
	}
	binary.LittleEndian.PutUint64(b, uint64(len(b)-8))
	_, err := parseHeader(b, int64(len(b))+next)
	if e, ok := err.(*Error); ok {
		e.Err = ErrPlan
	}
	return b, err
}
