// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"encoding/binary"
	"io"
	"math/bits"

	"github.com/setun-compute/setun/quant"
)

// bitWriter gathers bits, the first one lowest, in bytes.
type bitWriter struct {
	bytes []byte
	word  uint64 // of bits that have no byte yet
	n     uint
}

// put appends the low n ≤ 64 bits of v, which has no others.
func (b *bitWriter) put(v uint64, n uint) {
	b.word |= v << b.n
	if b.n+n < 64 {
		b.n += n
		return
	}
	b.bytes = binary.LittleEndian.AppendUint64(b.bytes, b.word)
	b.word = v >> (64 - b.n) // 0 where b.n is 0
	b.n += n - 64
}

// putBytes appends the first n bits of data.
func (b *bitWriter) putBytes(data []byte, n int) {
	for ; n >= 64; n, data = n-64, data[8:] {
		b.put(binary.LittleEndian.Uint64(data), 64)
	}
	for ; n > 0; n -= 8 {
		k := uint(min(n, 8))
		b.put(uint64(data[0])&(1<<k-1), k)
		data = data[1:]
	}
}

// take returns all bytes, the last one filled up with zeros, and begins again; they are good until the next put.
func (b *bitWriter) take() []byte {
	for i := uint(0); i < b.n; i += 8 {
		b.bytes = append(b.bytes, byte(b.word>>i))
	}
	out := b.bytes
	*b = bitWriter{bytes: out[:0]}
	return out
}

// planesCoder writes blocks of rows: the first plane of all of them, then their signs, both without gaps between rows.
type planesCoder struct {
	info        *Info
	out         io.Writer
	mask, signs bitWriter
	codes       []int8
	lengths     []byte
	rows        int // of the block, so far
}

func (c *planesCoder) add(chunk *quant.Tensor) error {
	c.codes = grown(c.codes, chunk.Cols)
	bytes := quant.Planes.RowBytes(chunk.Cols)
	for r := range chunk.Rows {
		if chunk.Format == quant.Planes {
			mask := chunk.Packed[r*bytes:][:bytes]
			c.mask.putBytes(mask, chunk.Cols)
			c.signs.putBytes(chunk.Signs[chunk.Index[r]:], ones(mask))
		} else {
			unpackRow(c.codes, chunk, r)
			c.row()
		}
		if c.rows++; c.rows == c.info.blockRows() {
			if err := c.block(); err != nil {
				return err
			}
		}
	}
	return nil
}

// row appends the codes of one row.
func (c *planesCoder) row() {
	for codes := c.codes; len(codes) > 0; {
		part := codes[:min(64, len(codes))]
		codes = codes[len(part):]
		var some, minus uint64
		n := uint(0)
		for i, v := range part {
			bit := uint64(v) & 1
			some |= bit << (i & 63)
			minus |= uint64(v) >> 63 << (n & 63)
			n += uint(bit)
		}
		c.mask.put(some, uint(len(part)))
		c.signs.put(minus, n)
	}
}

func (c *planesCoder) block() error {
	mask, signs := c.mask.take(), c.signs.take()
	c.rows = 0
	c.lengths = binary.LittleEndian.AppendUint32(c.lengths, uint32(len(mask)+len(signs)))
	if _, err := c.out.Write(mask); err != nil {
		return err
	}
	_, err := c.out.Write(signs)
	return err
}

func (c *planesCoder) finish() ([]byte, error) {
	if c.rows > 0 {
		if err := c.block(); err != nil {
			return nil, err
		}
	}
	return c.lengths, nil
}

// ones counts the bits of data that are set.
func ones(data []byte) int {
	n := 0
	for ; len(data) >= 8; data = data[8:] {
		n += bits.OnesCount64(binary.LittleEndian.Uint64(data))
	}
	for _, b := range data {
		n += bits.OnesCount8(b)
	}
	return n
}

// onesUpTo counts those of the first n bits.
func onesUpTo(data []byte, n int) int {
	count := ones(data[:n/8])
	if n%8 != 0 {
		count += bits.OnesCount8(data[n/8] << (8 - n%8))
	}
	return count
}

// copyBits copies the n bits of src that begin with bit from to the begin of dst, whose ⌈n/8⌉ bytes are written; bits beyond n are 0 in the last one.
func copyBits(dst, src []byte, from, n int) {
	src = src[from/8:]
	shift := uint(from % 8)
	bytes := (n + 7) / 8
	dst = dst[:bytes]
	i := 0
	for ; i+8 <= bytes && i+9 <= len(src); i += 8 {
		v := binary.LittleEndian.Uint64(src[i:])>>shift | uint64(src[i+8])<<(64-shift)
		binary.LittleEndian.PutUint64(dst[i:], v)
	}
	for ; i < bytes; i++ {
		v := src[i] >> shift
		if i+1 < len(src) {
			v |= src[i+1] << (8 - shift)
		}
		dst[i] = v
	}
	if n%8 != 0 {
		dst[bytes-1] &= 1<<(n%8) - 1
	}
}

// planesBlock checks a block of n codes, and returns its two parts. What is wrong comes as a text, with the byte of data at fault.
func planesBlock(data []byte, n int) (mask, signs []byte, wrong string, at int) {
	bytes := (n + 7) / 8
	if len(data) < bytes {
		return nil, nil, "a block that ends within its first plane", 0
	}
	mask, signs = data[:bytes], data[bytes:]
	if n%8 != 0 && mask[bytes-1]>>(n%8) != 0 {
		return nil, nil, "a first plane that goes on beyond its codes", bytes - 1
	}
	count := ones(mask)
	if len(signs) != (count+7)/8 {
		return nil, nil, "a block whose signs are not as many as its codes other than 0", bytes
	}
	if count%8 != 0 && signs[len(signs)-1]>>(count%8) != 0 {
		return nil, nil, "signs that go on beyond the codes", len(data) - 1
	}
	return mask, signs, "", 0
}
