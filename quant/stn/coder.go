// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"encoding/binary"
	"io"

	"github.com/setun-compute/setun/quant"
)

// coder writes the codes of a tensor's rows, chunk by chunk. What it is given was checked.
type coder interface {
	add(chunk *quant.Tensor) error
	finish() (index []byte, err error)
}

func newCoder(i *Info, w io.Writer) coder {
	switch i.Coding {
	case Planes:
		return &planesCoder{info: i, out: w}
	case RANS:
		return &ransCoder{info: i, out: w}
	case Classes:
		return &classCoder{info: i, out: w}
	}
	return &plainCoder{info: i, out: w}
}

// plainCoder writes rows as they lie in memory.
type plainCoder struct {
	info   *Info
	out    io.Writer
	codes  []int8
	buffer []byte
}

func (c *plainCoder) add(chunk *quant.Tensor) error {
	f := c.info.Coding.format(c.info.Levels)
	if chunk.Format == f && f != quant.Int8 {
		_, err := c.out.Write(chunk.Packed)
		return err
	}
	c.codes = grown(c.codes, chunk.Cols)
	c.buffer = grown(c.buffer, f.RowBytes(chunk.Cols))
	for r := range chunk.Rows {
		unpackRow(c.codes, chunk, r)
		if f == quant.Int8 {
			for i, v := range c.codes {
				c.buffer[i] = byte(v)
			}
		} else {
			quant.PackRow(c.buffer, c.codes, f)
		}
		if _, err := c.out.Write(c.buffer); err != nil {
			return err
		}
	}
	return nil
}

func (c *plainCoder) finish() ([]byte, error) { return nil, nil }

// ransCoder gathers symbols until a segment is full, finds a model for them and writes them as blocks.
type ransCoder struct {
	info      *Info
	out       io.Writer
	codes     []int8 // of rows that are packed together
	symbols   []byte // of the segment, so far
	lengths   []byte // of all blocks
	models    []byte
	encoder   encoder
	block     []byte
	scratch   []byte
	rowBuffer []byte
	rows      int // so far
}

func (c *ransCoder) add(chunk *quant.Tensor) error {
	i := c.info
	if i.Levels == quant.Ternary && i.Pack == 1 && chunk.Format == quant.Base3 {
		c.rows += chunk.Rows
		return c.take(chunk.Packed)
	}
	for r := range chunk.Rows {
		n := len(c.codes)
		c.codes = append(c.codes, make([]int8, i.Cols)...)
		unpackRow(c.codes[n:], chunk, r)
		if c.rows++; c.rows%i.Pack != 0 && c.rows != i.Rows {
			continue
		}
		c.rowBuffer = appendSymbols(c.rowBuffer[:0], c.codes, i.Levels)
		c.codes = c.codes[:0]
		if err := c.take(c.rowBuffer); err != nil {
			return err
		}
	}
	return nil
}

// take adds symbols to the segment, and writes it when it is full.
func (c *ransCoder) take(symbols []byte) error {
	const full = segmentBlocks * blockSymbols
	for len(symbols) > 0 {
		n := min(len(symbols), full-len(c.symbols))
		if n == full { // no need to copy
			if err := c.segment(symbols[:n]); err != nil {
				return err
			}
		} else if c.symbols = append(c.symbols, symbols[:n]...); len(c.symbols) == full {
			if err := c.segment(c.symbols); err != nil {
				return err
			}
			c.symbols = c.symbols[:0]
		}
		symbols = symbols[n:]
	}
	return nil
}

func (c *ransCoder) segment(symbols []byte) error {
	counts := make([]uint64, alphabet(c.info.Levels))
	seen := histogram(symbols)
	for v := range counts {
		counts[v] = seen[symbolByte(c.info.Levels, v)]
	}
	m, text := chooseModel(c.info.Levels, counts)
	c.encoder.set(m)
	c.models = append(c.models, text...)
	c.scratch = grown(c.scratch, stateBytes+2*blockSymbols)
	for len(symbols) > 0 {
		n := min(len(symbols), blockSymbols)
		c.block = c.encoder.block(c.block[:0], symbols[:n], c.scratch)
		c.lengths = binary.LittleEndian.AppendUint32(c.lengths, uint32(len(c.block)))
		if _, err := c.out.Write(c.block); err != nil {
			return err
		}
		symbols = symbols[n:]
	}
	return nil
}

// histogram counts bytes; four tables, because equal neighbours would wait for each other.
func histogram(symbols []byte) (counts [256]uint64) {
	var part [4][256]uint32 // a segment is short
	for ; len(symbols) >= 4; symbols = symbols[4:] {
		part[0][symbols[0]]++
		part[1][symbols[1]]++
		part[2][symbols[2]]++
		part[3][symbols[3]]++
	}
	for _, s := range symbols {
		part[0][s]++
	}
	for i := range counts {
		counts[i] = uint64(part[0][i]) + uint64(part[1][i]) + uint64(part[2][i]) + uint64(part[3][i])
	}
	return counts
}

func (c *ransCoder) finish() ([]byte, error) {
	if len(c.symbols) > 0 {
		if err := c.segment(c.symbols); err != nil {
			return nil, err
		}
	}
	return append(c.lengths, c.models...), nil
}

// grown returns a slice of n elements, s itself when it is large enough.
func grown[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	return s[:n]
}
