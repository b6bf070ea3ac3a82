// SPDX-License-Identifier: Apache-2.0

package quant

import (
	"encoding/binary"
	"fmt"
)

// blockBytes is the length of a full packed block: one cache line.
const blockBytes = 64

// planes returns the codes that lie at one place of a block: 4 in 2 bits and in five bits, 5 in base 3.
func (f Format) planes() int {
	if f == Base3 {
		return 5
	}
	return 4
}

// PackRow packs the ternary codes of one row as Bits2, Base3 or Four5 into dst, which has f.RowBytes(len(codes)) bytes. Blocks of planes, as
// docs/numerics.md describes: place b of a block of m places holds the codes b, b+m, b+2m, … Four5 takes codes that are Sparse: see [SparseZero].
func PackRow(dst []byte, codes []int8, f Format) {
	for p := f.planes(); len(codes) > 0; {
		m := min(blockBytes, (len(codes)-1)/p+1)
		n, bytes := min(len(codes), m*p), m
		switch f {
		case Bits2:
			pack2(dst[:m], codes[:n])
		case Base3:
			pack3(dst[:m], codes[:n])
		default:
			bytes = four5Bytes(n)
			packFour5(dst[:bytes], codes[:n], m)
		}
		dst, codes = dst[bytes:], codes[n:]
	}
}

func pack2(dst []byte, codes []int8) {
	m := len(dst)
	if len(codes) == 4*m {
		c0, c1, c2, c3 := codes[:m], codes[m:][:m], codes[2*m:][:m], codes[3*m:][:m]
		for b := range dst {
			dst[b] = byte(c0[b]+1) | byte(c1[b]+1)<<2 | byte(c2[b]+1)<<4 | byte(c3[b]+1)<<6
		}
		return
	}
	for b := range dst {
		v := byte(0)
		for p := range 4 {
			v |= byte(codeAt(codes, b+p*m)+1) << (2 * p)
		}
		dst[b] = v
	}
}

func pack3(dst []byte, codes []int8) {
	m := len(dst)
	if len(codes) == 5*m {
		c0, c1, c2, c3, c4 := codes[:m], codes[m:][:m], codes[2*m:][:m], codes[3*m:][:m], codes[4*m:][:m]
		for b := range dst {
			v := 81*uint32(c0[b]+1) + 27*uint32(c1[b]+1) + 9*uint32(c2[b]+1) + 3*uint32(c3[b]+1) + uint32(c4[b]+1)
			dst[b] = byte((256*v + 242) / 243)
		}
		return
	}
	for b := range dst {
		v := uint32(0)
		for p := range 5 {
			v = 3*v + uint32(codeAt(codes, b+p*m)+1)
		}
		dst[b] = byte((256*v + 242) / 243)
	}
}

// codeAt reads past the end of a short last block as code 0.
func codeAt(codes []int8, i int) int8 {
	if i < len(codes) {
		return codes[i]
	}
	return 0
}

// checkPairs says whether no code of Bits2, those beyond a row's end too, has both bits set, which stand for none.
func (t *Tensor) checkPairs() error {
	const low = 0x5555555555555555
	left := t.Packed
	for ; len(left) >= 8; left = left[8:] {
		if v := binary.LittleEndian.Uint64(left); v&(v>>1)&low != 0 {
			break
		}
	}
	for i, b := range left {
		if b&(b>>1)&(low&0xff) != 0 {
			return fmt.Errorf("%w: byte %d of the codes, %#02x, has one that is not %v", ErrFormat, len(t.Packed)-len(left)+i, b, t.Levels)
		}
	}
	return nil
}

// UnpackRow writes the codes of row r to dst, which has Cols elements.
func (t *Tensor) UnpackRow(dst []int8, r int) {
	switch t.Format {
	case Int8:
		copy(dst, t.Codes[r*t.Cols:][:t.Cols])
		return
	case Planes:
		mask := t.Packed[r*Planes.RowBytes(t.Cols):]
		unpackPlanes(dst, mask, t.Signs[t.Index[r]:])
		return
	}
	bytes := t.Format.RowBytes(t.Cols)
	UnpackRow(dst, t.Packed[r*bytes:][:bytes], t.Format)
}

// UnpackRow is the inverse of PackRow: it reads len(dst) codes.
func UnpackRow(dst []int8, packed []byte, f Format) {
	for p := f.planes(); len(dst) > 0; {
		m := min(blockBytes, (len(dst)-1)/p+1)
		n, bytes := min(len(dst), m*p), m
		if f == Four5 {
			bytes = four5Bytes(n)
			unpackFour5(dst[:n], packed[:bytes], m)
		} else {
			for i := range n {
				dst[i] = digit(packed[i%m], i/m, f)
			}
		}
		packed, dst = packed[bytes:], dst[n:]
	}
}

// digit reads plane p of a packed byte. In base 3 the byte is a fraction of 256: times 3^p, the next digit is the
// carry out of the multiplication by 3.
func digit(b byte, p int, f Format) int8 {
	if f == Bits2 {
		return int8(b>>(2*p)&3) - 1
	}
	pow := [5]byte{1, 3, 9, 27, 81}
	return int8(uint32(b*pow[p])*3>>8) - 1
}
