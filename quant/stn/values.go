// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/setun-compute/setun/internal/floats"
)

func notFinite(v float32) bool { return v-v != 0 }

// writeFloats writes values as a kind, little-endian.
func writeFloats(w io.Writer, kind Kind, values []float32) error {
	buffer := make([]byte, 0, 4*min(len(values), 1<<14))
	for len(values) > 0 {
		n := min(len(values), 1<<14)
		buffer = buffer[:0]
		for _, v := range values[:n] {
			switch kind {
			case F16:
				buffer = binary.LittleEndian.AppendUint16(buffer, floats.ToHalf(v))
			case BF16:
				buffer = binary.LittleEndian.AppendUint16(buffer, floats.ToBFloat(v))
			default:
				buffer = binary.LittleEndian.AppendUint32(buffer, math.Float32bits(v))
			}
		}
		if _, err := w.Write(buffer); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

// readFloats fills dst from bytes of a kind.
func readFloats(dst []float32, kind Kind, data []byte) {
	switch kind {
	case F16:
		floats.FromHalf(dst, data)
	case BF16:
		floats.FromBFloat(dst, data)
	default:
		floats.FromFloat32(dst, data)
	}
}
