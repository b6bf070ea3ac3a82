// SPDX-License-Identifier: Apache-2.0

package floats

import (
	"encoding/binary"
	"math"
)

// FromFloat32 reads len(dst) little-endian float32 values from src, which has four bytes for each.
func FromFloat32(dst []float32, src []byte) {
	src = src[:4*len(dst)]
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

// FromHalf reads len(dst) little-endian binary16 values from src, which has two bytes for each.
func FromHalf(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = Half(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// FromBFloat reads len(dst) little-endian bfloat16 values from src, which has two bytes for each.
func FromBFloat(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = BFloat(binary.LittleEndian.Uint16(src[2*i:]))
	}
}
