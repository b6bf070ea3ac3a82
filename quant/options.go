// SPDX-License-Identifier: Apache-2.0

package quant

// Levels says which codes a value may take.
type Levels uint8

// The code sets. The zero value of Levels stands for Ternary.
const (
	Ternary Levels = 3 // codes -1, 0, 1 times the scale: log2 3 = 1.585 bits
	Quinary Levels = 5 // codes -2 … 2 times half the scale: log2 5 = 2.32 bits
	Sparse  Levels = 4 // ternary codes, exactly one 0 among four: 32 patterns, 5/4 = 1.25 bits (Sherry, arXiv 2601.07892)
)

// String returns "ternary", "quinary" or "sparse".
func (l Levels) String() string {
	switch l {
	case Ternary:
		return "ternary"
	case Sparse:
		return "sparse"
	case Quinary:
		return "quinary"
	}
	return "unknown levels"
}

// Rule says how the scale of a group is found.
type Rule uint8

// The rules. The zero value stands for AbsMean with Ternary and for LeastSquares with Quinary.
const (
	AbsMean      Rule = 1 // mean |x|: BitNet b1.58 (arXiv 2402.17764)
	LeastSquares Rule = 2 // minimises ‖x − q‖² by alternating codes and scale: less error and fewer bits
	AbsMax       Rule = 3 // max |x|
	Magnitude    Rule = 4 // codes of LeastSquares, scale such that ‖q‖ = ‖x‖
	Stochastic   Rule = 5 // max |x|, rounded up or down at random so that the expectation is x; for gradients
)

// String returns the rule's name as commands print it.
func (r Rule) String() string {
	switch r {
	case AbsMean:
		return "absmean"
	case LeastSquares:
		return "least-squares"
	case AbsMax:
		return "absmax"
	case Magnitude:
		return "magnitude"
	case Stochastic:
		return "stochastic"
	}
	return "unknown rule"
}

// Format says how codes lie in memory.
type Format uint8

// The formats. The zero value stands for Int8. The packed ones hold ternary codes only.
const (
	Int8   Format = 1 // a code a byte
	Bits2  Format = 2 // four codes a byte
	Base3  Format = 3 // five codes a byte: 1.6 bits a code
	Four5  Format = 4 // four codes in five bits, of Sparse levels only: 1.25 bits a code
	Planes Format = 5 // a bit a code that says whether it is 0, and one for the sign of each that is not: 2 − p0 bits
)

// String returns "int8", "2bit", "base3", "four5" or "planes".
func (f Format) String() string {
	switch f {
	case Int8:
		return "int8"
	case Bits2:
		return "2bit"
	case Base3:
		return "base3"
	case Four5:
		return "four5"
	case Planes:
		return "planes"
	}
	return "unknown format"
}

// RowBytes returns the bytes that one row of cols codes takes in Codes or Packed. Of Planes that is the first plane: the signs of a row take as many bytes as it has codes other than 0.
func (f Format) RowBytes(cols int) int {
	switch f {
	case Four5:
		return (cols-1)/256*40 + four5Bytes((cols-1)%256+1)
	case Planes:
		return ((cols-1)/64 + 1) * 8
	case Bits2:
		return (cols-1)/4 + 1
	case Base3:
		return (cols-1)/5 + 1
	}
	return cols
}

// Options says what Quantize does. The zero value is ternary absmean, one scale for the whole tensor, int8 codes.
type Options struct {
	Levels Levels
	Rule   Rule
	Format Format
	Cols   int    // length of a row; 0: the whole input is one row
	Group  int    // values that share a scale, within a row; 0: one scale for the whole tensor; PerRow: one a row
	Seed   uint64 // of the Stochastic rule
}

// PerRow as Options.Group gives each row one scale.
const PerRow = -1

// WithDefaults fills in what is zero: Ternary, its rule (LeastSquares for other levels), Int8, one row of n values.
func (o Options) WithDefaults(n int) Options {
	if o.Levels == 0 {
		o.Levels = Ternary
	}
	if o.Rule == 0 {
		o.Rule = AbsMean
		if o.Levels != Ternary {
			o.Rule = LeastSquares // mean |x| is far from the best scale then
		}
	}
	if o.Format == 0 {
		o.Format = Int8
	}
	if o.Cols == 0 {
		o.Cols = n
	}
	if o.Group == PerRow {
		o.Group = o.Cols
	}
	return o
}
