// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"github.com/setun-compute/setun/quant"
)

const sparseBlock, sparsePlaces = 256, 64 // codes and places of a full block of quant.Four5

// appendSymbols appends the symbols of a packed row. Ternary: the bytes of base 3. Quinary: 25·a + 5·b + c of three codes plus 2. Sparse: 2·number + sign of each place of Four5.
// What fills up the last symbol counts as code 0.
func appendSymbols(dst []byte, codes []int8, l quant.Levels) []byte {
	switch l {
	case quant.Quinary:
		for ; len(codes) >= 3; codes = codes[3:] {
			dst = append(dst, byte(25*(codes[0]+2)+5*(codes[1]+2)+codes[2]+2))
		}
		if len(codes) > 0 {
			var last [3]int8
			copy(last[:], codes)
			dst = append(dst, byte(25*(last[0]+2)+5*(last[1]+2)+last[2]+2))
		}
	case quant.Sparse:
		packed := make([]byte, quant.Four5.RowBytes(len(codes)))
		quant.PackRow(packed, codes, quant.Four5)
		for n := len(codes); n > 0; n -= sparseBlock {
			m := (min(n, sparseBlock)-1)/4 + 1
			half := (m + 1) / 2
			for b := range m {
				number := packed[b%half] >> (4 * (b / half)) & 15
				dst = append(dst, number<<1|packed[half+b/8]>>(b%8)&1)
			}
			packed = packed[half+(m+7)/8:]
		}
	default:
		n := len(dst)
		dst = append(dst, make([]byte, quant.Base3.RowBytes(len(codes)))...)
		quant.PackRow(dst[n:], codes, quant.Base3)
	}
	return dst
}

// quinaryCodes are the three codes of each quinary symbol.
var quinaryCodes = func() (t [125][3]int8) {
	for v := range t {
		t[v] = [3]int8{int8(v/25) - 2, int8(v/5%5) - 2, int8(v%5) - 2}
	}
	return t
}()

// symbolsCodes writes the codes of a packed row of quinary or ternary symbols to dst.
func symbolsCodes(dst []int8, symbols []byte, l quant.Levels) {
	if l != quant.Quinary {
		unpack3(dst, symbols)
		return
	}
	for ; len(dst) >= 3; dst, symbols = dst[3:], symbols[1:] {
		*(*[3]int8)(dst) = quinaryCodes[symbols[0]]
	}
	if len(dst) > 0 {
		copy(dst, quinaryCodes[symbols[0]][:])
	}
}

// symbolsFour5 writes a row of sparse symbols as Four5; packed is a row of cols codes.
func symbolsFour5(packed, symbols []byte, cols int) {
	clear(packed)
	for n := cols; n > 0; n -= sparseBlock {
		m := (min(n, sparseBlock)-1)/4 + 1
		half := (m + 1) / 2
		for b, s := range symbols[:m] {
			packed[b%half] |= s >> 1 << (4 * (b / half))
			packed[half+b/8] |= s & 1 << (b % 8)
		}
		packed, symbols = packed[half+(m+7)/8:], symbols[m:]
	}
}

// base3Digits are the five codes of each byte of base 3, as quant.UnpackRow gives them.
var base3Digits = func() (t [256][5]int8) {
	for b := range t {
		quant.UnpackRow(t[b][:], []byte{byte(b)}, quant.Base3)
	}
	return t
}()

// unpack3 is quant.UnpackRow of Base3, faster for full blocks.
func unpack3(dst []int8, packed []byte) {
	for ; len(dst) >= 320; dst, packed = dst[320:], packed[64:] {
		d := (*[320]int8)(dst)
		for i, b := range packed[:64] {
			c := &base3Digits[b]
			d[i], d[64+i], d[128+i], d[192+i], d[256+i] = c[0], c[1], c[2], c[3], c[4]
		}
	}
	quant.UnpackRow(dst, packed, quant.Base3)
}

// unpackRow is t.UnpackRow, faster for base 3.
func unpackRow(dst []int8, t *quant.Tensor, r int) {
	if t.Format == quant.Base3 {
		n := quant.Base3.RowBytes(t.Cols)
		unpack3(dst, t.Packed[r*n:][:n])
		return
	}
	t.UnpackRow(dst, r)
}

// base3Valid tells which bytes base 3 has.
var base3Valid = func() (t [256]bool) {
	for v := range 243 {
		t[symbolByte(quant.Ternary, v)] = true
	}
	return t
}()

// validCodes says whether all codes are of the tensor's levels, or which row is not. Four5 and Planes have no others.
func validCodes(t *quant.Tensor) (row int, ok bool) {
	switch t.Format {
	case quant.Int8:
		if n := badInt8(t.Codes, t.Levels); n >= 0 {
			return n / t.Cols, false
		}
	default:
		if n := badPacked(t.Packed, t.Format); n >= 0 {
			return n / t.Format.RowBytes(t.Cols), false
		}
	}
	return 0, true
}

// badInt8 returns where the first code is that levels do not have, or −1.
func badInt8(codes []int8, l quant.Levels) int {
	most := uint8(1)
	if l == quant.Quinary {
		most = 2
	}
	for i, c := range codes {
		if uint8(c)+most > 2*most {
			return i
		}
	}
	return -1
}

// badPacked returns where the first byte is that a format does not have, or −1.
func badPacked(packed []byte, f quant.Format) int {
	switch f {
	case quant.Bits2:
		for i, b := range packed {
			if b&(b>>1)&0x55 != 0 {
				return i
			}
		}
	case quant.Base3:
		for i, b := range packed {
			if !base3Valid[b] {
				return i
			}
		}
	}
	return -1
}

// validSparse says whether Four5 can hold all codes, or in which row it cannot.
func validSparse(t *quant.Tensor) (row int, ok bool) {
	codes, back := make([]int8, t.Cols), make([]int8, t.Cols)
	packed := make([]byte, quant.Four5.RowBytes(t.Cols))
	for r := range t.Rows {
		t.UnpackRow(codes, r)
		quant.PackRow(packed, codes, quant.Four5)
		quant.UnpackRow(back, packed, quant.Four5)
		for i := range codes {
			if codes[i] != back[i] {
				return r, false
			}
		}
	}
	return 0, true
}
