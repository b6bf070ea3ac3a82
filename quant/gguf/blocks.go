// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"encoding/binary"
	"math"

	"github.com/setun-compute/setun/internal/floats"
)

// The layouts, from ggml-common.h and the reference code in ggml-quants.c. A code c in -1, 0, 1 is stored as the digit c+1.
//
// TQ2_0: 64 bytes of codes, then the scale. In half h of the block, byte 32h+m holds the weights 128h+m+32n in bits 2n and 2n+1, n = 0 … 3.
//
// TQ1_0: 52 bytes of codes, then the scale. Bytes 0 … 31 hold the weights m+32n and bytes 32 … 47 the weights 160+m+16n, n = 0 … 4; bytes 48 … 51 hold the
// weights 240+m+4n, n = 0 … 3, and a digit 0 in the fifth place. Digits make a number v = Σ digit_n·3^(4−n) below 243, stored as the fraction ⌈256·v/243⌉ of 256.
const (
	q8Block = 32 // weights
	q8Bytes = 2 + q8Block

	tq1Bytes = 52 + 2
	tq2Bytes = 64 + 2
)

// planes are the parts of a TQ1_0 block: bytes first … first+bytes−1 hold the weights from at on, digits of them in each byte.
var planes = [3]struct{ first, bytes, at, digits int }{{0, 32, 0, 5}, {32, 16, 160, 5}, {48, 4, 240, 4}}

// decodeTernary reads a block's codes, as ggml does: a digit 3 of TQ2_0 becomes the code 2. It returns the scale.
func decodeTernary(t Type, block []byte, codes *[Block]int8) float32 {
	if t == TQ2_0 {
		block = block[:tq2Bytes]
		for half := range 2 {
			bytes := block[32*half:][:32]
			for n := range 4 {
				out := codes[128*half+32*n:][:32]
				for m, b := range bytes {
					out[m] = int8(b>>(2*n)&3) - 1
				}
			}
		}
		return floats.Half(binary.LittleEndian.Uint16(block[tq2Bytes-2:]))
	}
	block = block[:tq1Bytes]
	for _, p := range planes {
		bytes, power := block[p.first:][:p.bytes], byte(1)
		for n := range p.digits {
			out := codes[p.at+n*p.bytes:][:p.bytes]
			for m, b := range bytes {
				out[m] = int8(uint32(b*power)*3>>8) - 1 // times 3^n, the fraction begins with digit n
			}
			power *= 3
		}
	}
	return floats.Half(binary.LittleEndian.Uint16(block[tq1Bytes-2:]))
}

// encodeTernary writes a block of codes in -1, 0, 1 with the scale's bits.
func encodeTernary(t Type, block []byte, codes []int8, scale uint16) {
	codes = codes[:Block]
	if t == TQ2_0 {
		block = block[:tq2Bytes]
		for half := range 2 {
			c := codes[128*half:][:128]
			for m := range 32 {
				block[32*half+m] = byte(c[m]+1) | byte(c[m+32]+1)<<2 | byte(c[m+64]+1)<<4 | byte(c[m+96]+1)<<6
			}
		}
		binary.LittleEndian.PutUint16(block[tq2Bytes-2:], scale)
		return
	}
	block = block[:tq1Bytes]
	for _, p := range planes {
		for m := range p.bytes {
			v := uint32(0)
			for n := range p.digits {
				v = 3*v + uint32(codes[p.at+n*p.bytes+m]+1)
			}
			if p.digits == 4 {
				v *= 3
			}
			block[p.first+m] = byte((256*v + 242) / 243)
		}
	}
	binary.LittleEndian.PutUint16(block[tq1Bytes-2:], scale)
}

// checkTernary looks for what an encoder never writes. It returns the place in the block and what is wrong there; at is -1 when all is well.
func checkTernary(t Type, block []byte) (at int, detail string) {
	scale := tq1Bytes - 2
	if t == TQ2_0 {
		scale = tq2Bytes - 2
		for i, b := range block[:scale] {
			if b&(b>>1)&0x55 != 0 {
				return i, "a digit 3, which is no ternary code"
			}
		}
	} else {
		for i, b := range block[:scale] {
			v := uint32(b) * 243 >> 8
			if byte((256*v+242)/243) != b {
				return i, "a byte that five trits never make"
			}
			if i >= planes[2].first && v%3 != 0 {
				return i, "a fifth trit in a byte of four"
			}
		}
	}
	if d := float64(floats.Half(binary.LittleEndian.Uint16(block[scale:]))); math.IsNaN(d) || math.IsInf(d, 0) {
		return scale, "a scale that is not finite"
	}
	return -1, ""
}

// decode reads len(dst) values of a type that is Readable from data, which has their whole blocks. The arithmetic is ggml's: one float32 product a value.
func decode(t Type, dst []float32, data []byte) {
	switch t {
	case F32:
		floats.FromFloat32(dst, data)
	case F16:
		floats.FromHalf(dst, data)
	case BF16:
		floats.FromBFloat(dst, data)
	case Q8_0:
		for ; len(dst) > 0; dst, data = dst[q8Block:], data[q8Bytes:] {
			d, codes := floats.Half(binary.LittleEndian.Uint16(data)), data[2:q8Bytes]
			out := dst[:len(codes)]
			for i, c := range codes {
				out[i] = float32(int8(c)) * d
			}
		}
	case TQ1_0, TQ2_0:
		var codes [Block]int8
		for _, size, _ := t.Size(); len(dst) > 0; dst, data = dst[Block:], data[size:] {
			d := decodeTernary(t, data, &codes)
			out := dst[:Block]
			for i, c := range codes {
				out[i] = d * float32(c)
			}
		}
	}
}
