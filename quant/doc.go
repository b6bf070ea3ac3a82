// SPDX-License-Identifier: Apache-2.0

// Package quant holds what a quantized tensor is: its codes, scales and packings.
//
// Two code sets are known. Ternary codes {-1, 0, 1} carry at most log2 3 = 1.585 bits each and are what "1.58-bit"
// means; quinary codes {-2, -1, 0, 1, 2}, in halves of the scale, carry at most log2 5 = 2.32 bits.
//
// A [Tensor] is made by Runtime.Quantize. It can be read element by element, turned back into float32 values, and
// measured against its origin: [Measure] reports the error, the entropy of the codes and the bytes that they really take.
// The exact arithmetic is in docs/numerics.md.
package quant
