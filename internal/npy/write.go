// SPDX-License-Identifier: Apache-2.0

package npy

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/setun-compute/setun/internal/durable"
)

// Number is a type of values that can be written.
type Number interface{ int32 | float32 | float64 }

// alignment of the values in a file, as NumPy writes it, so that a mapping can be used as it is.
const alignment = 64

// Write writes values of a shape, row-major, as a version 1.0 file.
func Write[T Number](w io.Writer, values []T, shape ...int) error {
	h := Header{Shape: shape}
	if n, ok := product(shape); !ok || n != len(values) {
		return fmt.Errorf("%d values have not the shape %s: %w", len(values), h.ShapeString(), ErrFormat)
	}
	var descr string
	switch any(values).(type) {
	case []int32:
		descr = "<i4"
	case []float32:
		descr = "<f4"
	case []float64:
		descr = "<f8"
	}
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, h.ShapeString())
	begin := len(magic) + 2 + 2
	pad := alignment - (begin+len(text)+1)%alignment
	text += strings.Repeat(" ", pad%alignment) + "\n"
	head := binary.LittleEndian.AppendUint16([]byte(magic+"\x01\x00"), uint16(len(text)))
	if _, err := w.Write(append(head, text...)); err != nil {
		return err
	}
	const chunk = 1 << 16
	var buffer []byte
	for i := 0; i < len(values); i += chunk {
		var err error
		if buffer, err = binary.Append(buffer[:0], binary.LittleEndian, values[i:min(i+chunk, len(values))]); err != nil {
			return err
		}
		if _, err := w.Write(buffer); err != nil {
			return err
		}
	}
	return nil
}

// WriteFile writes an npy file that is whole or not there; see durable.Write.
func WriteFile[T Number](path string, values []T, shape ...int) error {
	return writeIn(durable.Files{}, path, values, shape...)
}

func writeIn[T Number](files durable.Files, path string, values []T, shape ...int) error {
	return files.Write(path, 0o644, func(w io.Writer) error { return Write(w, values, shape...) })
}
