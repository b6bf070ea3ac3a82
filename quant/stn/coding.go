// SPDX-License-Identifier: Apache-2.0

package stn

import "github.com/setun-compute/setun/quant"

// Coding says how the codes of a quantized tensor are stored.
type Coding uint8

// The codings. The zero value lets [Writer.Add] choose the smallest.
const (
	Int8   Coding = 1 // a code a byte
	Bits2  Coding = 2 // four codes a byte
	Base3  Coding = 3 // five codes a byte: 1.6 bits a code
	Four5  Coding = 4 // four codes in five bits, of Sparse levels only: 1.25 bits a code
	Planes Coding = 5 // a bit a code that says whether it is 0, and one for the sign of each that is not: 2 − p0 bits; rows are found by counting bits
	RANS   Coding = 6 // range asymmetric numeral systems (Duda 2013, arXiv 1311.2540), interleaved (Giesen 2014, arXiv 1402.3392): the entropy of the codes, nearly

	// Classes is RANS, of Ternary levels only, with a frequency of codes for each pair of a class of rows and a class of columns: smaller where rows or columns differ.
	Classes Coding = 7
)

var codingNames = [...]string{Int8: "int8", Bits2: "2bit", Base3: "base3", Four5: "four5", Planes: "planes", RANS: "rans", Classes: "classes"}

// String returns "int8", "2bit", "base3", "four5", "planes", "rans" or "classes".
func (c Coding) String() string {
	if c < Int8 || c > Classes {
		return "unknown coding"
	}
	return codingNames[c]
}

// fits says whether a coding can hold codes of such levels.
func (c Coding) fits(l quant.Levels) bool {
	switch l {
	case quant.Ternary:
		return c >= Int8 && c <= Classes && c != Four5
	case quant.Quinary:
		return c == Int8 || c == RANS
	case quant.Sparse:
		return c >= Int8 && c <= RANS
	}
	return false
}

// format returns the format in memory that codes of a coding are read as.
func (c Coding) format(l quant.Levels) quant.Format {
	switch {
	case c < RANS:
		return quant.Format(c) // the first five are numbered alike
	case l == quant.Quinary:
		return quant.Int8
	case l == quant.Sparse:
		return quant.Four5
	}
	return quant.Base3
}

// Kind says what the values of a tensor, or its scales, are.
type Kind uint8

// The kinds. The zero value is no kind.
const (
	Quantized Kind = 1 // codes and scales
	F32       Kind = 2 // IEEE 754 binary32
	F16       Kind = 3 // IEEE 754 binary16
	BF16      Kind = 4 // the upper half of a binary32
)

// String returns "quantized", "f32", "f16" or "bf16".
func (k Kind) String() string {
	switch k {
	case Quantized:
		return "quantized"
	case F32:
		return "f32"
	case F16:
		return "f16"
	case BF16:
		return "bf16"
	}
	return "unknown kind"
}

// size returns the bytes of a value.
func (k Kind) size() int64 {
	if k == F32 {
		return 4
	}
	return 2
}

// Section is a part of a file.
type Section struct{ Offset, Size int64 }

func (s Section) end() int64 { return s.Offset + s.Size }

// Info is what a file's header says of a tensor.
type Info struct {
	Name  string
	Shape []int64 // not empty sizes; none for a single value
	Kind  Kind

	// Of a quantized tensor: a matrix of Rows×Cols codes whose row-major order is that of the shape, and scales as in quant.Tensor.
	Levels     quant.Levels
	Coding     Coding
	Rows, Cols int
	Group      int  // codes that share a scale, within a row; 0: one scale for all
	Pack       int  // rows that RANS packs together; 1 otherwise
	ScaleKind  Kind // F32, or F16 where that loses nothing

	Codes  Section // codes, or the values of a tensor that is not quantized
	Index  Section // of Planes, RANS and Classes: the lengths of blocks, and models; else empty
	Scales Section
}

// Values returns how many values the tensor has: the product of its shape.
func (i *Info) Values() int64 {
	n := int64(1)
	for _, s := range i.Shape {
		n *= s
	}
	return n
}

// Bytes returns what the tensor takes in the file, without its part of the header.
func (i *Info) Bytes() int64 { return i.Codes.Size + i.Index.Size + i.Scales.Size }

// scaleCount is quant.ScaleCount, in 64 bits.
func (i *Info) scaleCount(rows int) int64 {
	if i.Group <= 0 {
		return 1
	}
	return int64(rows) * ceil(int64(i.Cols), int64(i.Group))
}
