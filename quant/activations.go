// SPDX-License-Identifier: Apache-2.0

package quant

// Activations are a matrix of Rows×Cols values as int8 codes with a scale a row, as what a ternary matrix is multiplied by: a row is a token. Made by Runtime.QuantizeActivations.
type Activations struct {
	Rows, Cols int
	Codes      []int8    // Rows*Cols, -127 … 127; row-major
	Scales     []float32 // Rows: the value of a code is code·scale
}

// Resize gives the matrix a shape and storage for it, keeping memory that is large enough. The contents are unspecified afterwards.
func (a *Activations) Resize(rows, cols int) {
	a.Rows, a.Cols = rows, cols
	a.Codes, a.Scales = resized(a.Codes, rows*cols), resized(a.Scales, rows)
}
