// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"math"

	"github.com/setun-compute/setun/quant"
)

const (
	blockSymbols  = 1 << 15 // symbols of a block of RANS: it can be decoded alone
	segmentBlocks = 32      // blocks that share a model
	maxPacked     = 1 << 16 // codes of several rows that are packed together, at most: one of them cannot be read without the others
	packedCols    = 2048    // shorter rows are packed together, so that what fills up their last symbols does not count
	planesCodes   = 1 << 16 // codes of a block of Planes, at least: as many rows as that takes
)

// symbolCodes returns how many codes a symbol of RANS stands for: 3⁵ = 243, 5³ = 125 and 32 symbols.
func symbolCodes(l quant.Levels) int64 {
	switch l {
	case quant.Quinary:
		return 3
	case quant.Sparse:
		return 4
	}
	return 5
}

// packFor returns how many rows the writer packs together. Rows of Sparse codes are packed alone, because their places are counted from the begin of a row.
func packFor(l quant.Levels, rows, cols int) int {
	if l == quant.Sparse || cols >= packedCols || int64(cols)%symbolCodes(l) == 0 {
		return 1
	}
	return min(rows, (packedCols-1)/cols+1)
}

// symbols returns the symbols of the first rows rows, which are all or a multiple of Pack.
func (i *Info) symbols(rows int) int64 {
	s := symbolCodes(i.Levels)
	wide := int64(i.Cols) * int64(i.Pack)
	return int64(rows/i.Pack)*ceil(wide, s) + ceil(int64(i.Cols)*int64(rows%i.Pack), s)
}

// blockRows returns the rows of a block of Planes.
func (i *Info) blockRows() int { return int(ceil(planesCodes, int64(i.Cols))) }

// blocks returns how many blocks the codes are cut into; 0 for codings without.
func (i *Info) blocks() int64 {
	switch i.Coding {
	case Planes:
		return ceil(int64(i.Rows), int64(i.blockRows()))
	case RANS:
		return ceil(i.symbols(i.Rows), blockSymbols)
	case Classes:
		return ceil(int64(i.Rows), int64(i.classRows()))
	}
	return 0
}

// rowBytes is quant.Format.RowBytes of the format that is read, in 64 bits.
func (i *Info) rowBytes() int64 { return int64(i.Coding.format(i.Levels).RowBytes(i.Cols)) }

// memory returns the bytes that some rows take once they are read, and while they are, at most. It does not overflow: a tensor has at most 2^48 values, and none of them takes more
// than 28 bytes.
func (i *Info) memory(rows int) int64 {
	n := int64(rows)*i.rowBytes() + 4*i.scaleCount(rows)
	if i.Coding == RANS {
		n += 2 * int64(i.Pack) * int64(i.Cols)
	}
	if i.Coding == Classes { // symbols of a block, and what is made of columns
		n += int64(i.classRows())*int64(i.Cols)/groupRows + 6*int64(i.Cols)
	}
	if i.Coding == Planes {
		n += int64(rows)*ceil(int64(i.Cols), 8) + 8*(int64(rows)+1) + int64(quant.SignPadding(i.Cols))
	}
	return n
}

// check holds the fields of a quantized tensor, and the sizes of its sections, against each other. What is wrong is said without an offset.
func (i *Info) check() *Error {
	values := i.Values()
	switch {
	case i.Cols < 1 || i.Cols > MaxCols || values%int64(i.Cols) != 0:
		return fail(ErrFormat, 0, "%d values in rows of %d", values, i.Cols)
	case i.Group < 0 || i.Group > i.Cols:
		return fail(ErrFormat, 0, "groups of %d in rows of %d", i.Group, i.Cols)
	case !i.Coding.fits(i.Levels):
		return fail(ErrFormat, 0, "%v codes as %v", i.Levels, i.Coding)
	case i.Rows < 1 || int64(i.Rows) != values/int64(i.Cols): // also where int has 32 bits
		return fail(ErrLimit, 0, "%d rows", values/int64(i.Cols))
	case i.Pack < 1 || i.Pack > i.Rows || i.Pack > 1 && (i.Coding != RANS || i.Levels == quant.Sparse) || i.Pack > 1 && int64(i.Pack)*int64(i.Cols) > maxPacked:
		return fail(ErrFormat, 0, "%d rows of %v packed together", i.Pack, i.Coding)
	case i.ScaleKind != F32 && i.ScaleKind != F16:
		return fail(ErrFormat, 0, "scales are %v", i.ScaleKind)
	}
	return nil
}

// checkSizes compares the sizes of the sections with those that shape and coding allow.
func (i *Info) checkSizes() *Error {
	if n := i.scaleCount(i.Rows) * i.ScaleKind.size(); i.Scales.Size != n {
		return fail(ErrFormat, 0, "%d bytes of scales; %d are expected", i.Scales.Size, n)
	}
	blocks := i.blocks()
	least, most := int64(i.Rows)*i.rowBytes(), int64(0)
	indexLeast, indexMost := int64(0), int64(0)
	switch i.Coding {
	case Planes:
		full, rest := int64(i.Rows/i.blockRows()), int64(i.Rows%i.blockRows())
		least = full*ceil(int64(i.blockRows())*int64(i.Cols), 8) + ceil(rest*int64(i.Cols), 8)
		most = 2 * least
		indexLeast, indexMost = 4*blocks, 4*blocks
	case RANS:
		segments := ceil(blocks, segmentBlocks)
		least, most = blocks*lanes*4, blocks*lanes*4+2*i.symbols(i.Rows)
		indexLeast, indexMost = 4*blocks+segments, 4*blocks+maxModel*segments
	case Classes:
		segments := i.classSegments()
		least = blocks * stateBytes
		most = blocks*(stateBytes+ceil(int64(i.classRows())*classBits, 8)) + 2*ceil(int64(i.Rows), groupRows)*int64(i.Cols)
		indexLeast, indexMost = 4*blocks+3*segments, 4*blocks+segments*(1+ceil(int64(i.Cols)*classBits, 8)+2<<pairBits)
	default:
		most = least
	}
	switch {
	case blocks > math.MaxInt32:
		return fail(ErrLimit, 0, "%d blocks", blocks)
	case i.Codes.Size < least || i.Codes.Size > most:
		return fail(ErrFormat, 0, "%d bytes of codes; %d to %d are expected", i.Codes.Size, least, most)
	case i.Index.Size < indexLeast || i.Index.Size > indexMost:
		return fail(ErrFormat, 0, "%d bytes of index; %d to %d are expected", i.Index.Size, indexLeast, indexMost)
	}
	return nil
}
