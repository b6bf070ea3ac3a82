// SPDX-License-Identifier: Apache-2.0

package quant

// Four codes of which exactly one is 0 have 4·2³ = 32 patterns: five bits. They are a number of 0 … 15 for where the 0 is and which of the other two signs differ from the first, and a bit for the first
// sign; so the codes of one number differ by their sign alone, and a table of sixteen serves all.
//
// A block of m places, at most 64, holds up to 4m codes. Its ⌈m/2⌉ first bytes hold the numbers: of place b in the lower half of byte b, of place ⌈m/2⌉ + b in the upper half. ⌈m/8⌉ bytes follow, whose bit b is set
// where the first sign of place b is minus. What lies beyond the end of a row is no code: there the 0 of a place may be, and signs are plus.

// four5Bytes returns the bytes of a block of n codes, 1 to 256.
func four5Bytes(n int) int {
	m := (n-1)/4 + 1
	return (m+1)/2 + (m+7)/8
}

// SparseZero tells which of the codes of one place of a block of m places must be 0: that of the smallest magnitude, of equal ones the first. x are the values of the block, b the place. It is −1 where
// the row ends before the fourth code: then none has to be.
func SparseZero(x []float32, b, m int) int {
	if b+3*m >= len(x) {
		return -1
	}
	at, least := b, abs(x[b])
	for i := b + m; i <= b+3*m; i += m {
		if v := abs(x[i]); v < least {
			at, least = i, v
		}
	}
	return at
}

// SparseCodes makes the codes of a row by SparseZero: the signs of its values, those of 0 plus, and 0 where one has to be. It is the set of codes nearest to x: with the scale that fits them best, the error is the energy of
// the smallest of each four and what the others differ in magnitude.
func SparseCodes(dst []int8, x []float32) {
	for len(x) > 0 {
		m := min(blockBytes, (len(x)-1)/4+1)
		n := min(len(x), 4*m)
		for i, v := range x[:n] {
			dst[i] = 1
			if v < 0 {
				dst[i] = -1
			}
		}
		for b := range m {
			if zero := SparseZero(x[:n], b, m); zero >= 0 {
				dst[zero] = 0
			}
		}
		dst, x = dst[n:], x[n:]
	}
}

func abs(v float32) float32 { return max(v, -v) }

// sparsePlace returns number and sign of the four codes of one place. More than one 0, which only a wrong caller has, counts as plus.
func sparsePlace(codes []int8, b, m int) (number, sign byte) {
	zero := -1
	var signs [4]byte
	for p := range 4 {
		switch i := b + p*m; {
		case i >= len(codes) || codes[i] == 0:
			if zero < 0 {
				zero = p
			}
		case codes[i] < 0:
			signs[p] = 1
		}
	}
	if zero < 0 { // no 0 at all
		zero = 3
	}
	var three [3]byte
	n := 0
	for p := range 4 {
		if p != zero {
			three[n] = signs[p]
			n++
		}
	}
	return byte(zero)<<2 | (three[1]^three[0])<<1 | three[2] ^ three[0], three[0]
}

func packFour5(dst []byte, codes []int8, m int) {
	clear(dst)
	half := (m + 1) / 2
	for b := range m {
		number, sign := sparsePlace(codes, b, m)
		if b < half {
			dst[b] |= number
		} else {
			dst[b-half] |= number << 4
		}
		dst[half+b/8] |= sign << (b % 8)
	}
}

// four5Code returns code p of the place with a number, when its first sign is plus.
func four5Code(number byte, p int) int8 {
	zero := int(number >> 2)
	if p == zero {
		return 0
	}
	n := p
	if p > zero {
		n--
	}
	if n > 0 && number>>(2-n)&1 != 0 {
		return -1
	}
	return 1
}

func unpackFour5(dst []int8, packed []byte, m int) {
	half := (m + 1) / 2
	for b := range m {
		number := packed[b%half] & 15
		if b >= half {
			number = packed[b-half] >> 4
		}
		minus := packed[half+b/8]>>(b%8)&1 != 0
		for p, i := 0, b; p < 4 && i < len(dst); p, i = p+1, i+m {
			if dst[i] = four5Code(number, p); minus {
				dst[i] = -dst[i]
			}
		}
	}
}
