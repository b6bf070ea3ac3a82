// SPDX-License-Identifier: Apache-2.0

package quant

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// SignPadding returns how many bytes Signs of Planes has beyond the last sign, for rows of so many codes: as many as a row's signs can take, and some more, because readers take eight at a time. So a first plane that
// has more bits than its index allows for leads nobody out of the signs.
func SignPadding(cols int) int { return (cols+7)/8 + 16 }

// packPlanes writes the first plane of a row to mask, which has Planes.RowBytes(len(codes)) bytes, and appends its signs to signs: bit i of the first plane, in words of 64 bits and little-endian bytes, is set where
// code i is not 0; the j-th bit of the signs belongs to the j-th such code and is set where it is negative. A row's signs begin with a byte.
func packPlanes(mask, signs []byte, codes []int8) []byte {
	clear(mask)
	var some, n byte
	for i, c := range codes {
		if c == 0 {
			continue
		}
		mask[i/8] |= 1 << (i % 8)
		if c < 0 {
			some |= 1 << n
		}
		if n++; n == 8 {
			signs, some, n = append(signs, some), 0, 0
		}
	}
	if n > 0 {
		signs = append(signs, some)
	}
	return signs
}

func unpackPlanes(dst []int8, mask, signs []byte) {
	clear(dst)
	sign := 0
	for i := 0; i < len(dst); i += 64 {
		word := binary.LittleEndian.Uint64(mask[i/8:])
		if n := len(dst) - i; n < 64 {
			word &= 1<<n - 1 // bits beyond the row are damage, and the last ones
		}
		for ; word != 0; word &= word - 1 {
			minus := int8(signs[sign/8] >> (sign % 8) & 1)
			dst[i+bits.TrailingZeros64(word)] = 1 - 2*minus
			sign++
		}
	}
}

// checkIndex says whether rows begin within the signs, one after another.
func (t *Tensor) checkIndex() error {
	if len(t.Index) != t.Rows+1 || t.Index[0] != 0 || int64(len(t.Signs)) != t.Index[t.Rows]+int64(SignPadding(t.Cols)) {
		return fmt.Errorf("%w: planes of %d rows with an index of %d and %d bytes of signs", ErrFormat, t.Rows, len(t.Index), len(t.Signs))
	}
	for r, at := range t.Index[:t.Rows] {
		if at > t.Index[r+1] {
			return fmt.Errorf("%w: the signs of row %d begin at %d and end at %d", ErrFormat, r, at, t.Index[r+1])
		}
	}
	return nil
}

// checkPlanes holds the index against the first plane, so that nobody reads beyond the signs: each row has a bit for each of its codes other than 0, and nothing beyond its last code.
func (t *Tensor) checkPlanes() error {
	bytes := Planes.RowBytes(t.Cols)
	for r := range t.Rows {
		row := t.Packed[r*bytes:][:bytes]
		n := 0
		for i := 0; i < bytes; i += 8 {
			n += bits.OnesCount64(binary.LittleEndian.Uint64(row[i:]))
		}
		if t.Cols%64 != 0 && binary.LittleEndian.Uint64(row[bytes-8:])>>(t.Cols%64) != 0 {
			return fmt.Errorf("%w: row %d of the first plane goes on beyond its %d codes", ErrFormat, r, t.Cols)
		}
		if t.Index[r+1] != t.Index[r]+int64(n+7)/8 {
			return fmt.Errorf("%w: row %d has %d codes other than 0 and signs from %d to %d", ErrFormat, r, n, t.Index[r], t.Index[r+1])
		}
	}
	return nil
}
