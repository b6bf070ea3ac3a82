// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"fmt"
	"math"
	"math/bits"
)

// Type is a tensor's type: how its values lie in the file. The numbers are ggml's.
type Type uint32

// The types whose values are read here. Q8_0 is read only; the others are written too.
const (
	F32  Type = 0  // IEEE 754 binary32
	F16  Type = 1  // binary16
	Q8_0 Type = 8  // 32 int8 codes times a binary16 scale
	BF16 Type = 30 // bfloat16

	// TQ1_0 holds 256 ternary codes as five trits a byte, then a binary16 scale: 54 bytes, 1.6875 bits a weight.
	TQ1_0 Type = 34
	// TQ2_0 holds 256 ternary codes in two bits each, then a binary16 scale: 66 bytes, 2.0625 bits a weight.
	TQ2_0 Type = 35
)

// Block is the number of weights that share a scale in TQ1_0 and TQ2_0. Their rows are a multiple of it.
const Block = 256

// types is ggml's table up to its type 42: the weights of a block and the block's bytes; zero for numbers that ggml withdrew. Sizes are those of the structs in
// ggml-common.h, which differ from gguf-py's table for Q8_1 only: 36 bytes, a type that files do not hold.
var types = [...]struct {
	name         string
	block, bytes int64
}{
	0: {"F32", 1, 4}, 1: {"F16", 1, 2}, 2: {"Q4_0", 32, 18}, 3: {"Q4_1", 32, 20}, 4: {"Q4_2", 0, 0}, 5: {"Q4_3", 0, 0}, 6: {"Q5_0", 32, 22}, 7: {"Q5_1", 32, 24},
	8: {"Q8_0", 32, 34}, 9: {"Q8_1", 32, 36}, 10: {"Q2_K", 256, 84}, 11: {"Q3_K", 256, 110}, 12: {"Q4_K", 256, 144}, 13: {"Q5_K", 256, 176},
	14: {"Q6_K", 256, 210}, 15: {"Q8_K", 256, 292}, 16: {"IQ2_XXS", 256, 66}, 17: {"IQ2_XS", 256, 74}, 18: {"IQ3_XXS", 256, 98}, 19: {"IQ1_S", 256, 50},
	20: {"IQ4_NL", 32, 18}, 21: {"IQ3_S", 256, 110}, 22: {"IQ2_S", 256, 82}, 23: {"IQ4_XS", 256, 136}, 24: {"I8", 1, 1}, 25: {"I16", 1, 2}, 26: {"I32", 1, 4},
	27: {"I64", 1, 8}, 28: {"F64", 1, 8}, 29: {"IQ1_M", 256, 56}, 30: {"BF16", 1, 2}, 31: {"Q4_0_4_4", 0, 0}, 32: {"Q4_0_4_8", 0, 0}, 33: {"Q4_0_8_8", 0, 0},
	34: {"TQ1_0", 256, 54}, 35: {"TQ2_0", 256, 66}, 36: {"IQ4_NL_4_4", 0, 0}, 37: {"IQ4_NL_4_8", 0, 0}, 38: {"IQ4_NL_8_8", 0, 0}, 39: {"MXFP4", 32, 17},
	40: {"NVFP4", 64, 36}, 41: {"Q1_0", 128, 18}, 42: {"Q2_0", 64, 18},
}

// String returns ggml's name of the type.
func (t Type) String() string {
	if int64(t) < int64(len(types)) {
		return types[t].name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Size returns the weights of a block and the block's bytes; false for a type that is not known or that ggml withdrew.
func (t Type) Size() (block, bytes int, ok bool) {
	if int64(t) >= int64(len(types)) || types[t].block == 0 {
		return 0, 0, false
	}
	return int(types[t].block), int(types[t].bytes), true
}

// Readable reports whether Floats reads the type.
func (t Type) Readable() bool { return t == F32 || t == F16 || t == BF16 || t == Q8_0 || t.Ternary() }

// Ternary reports whether the type is TQ1_0 or TQ2_0.
func (t Type) Ternary() bool { return t == TQ1_0 || t == TQ2_0 }

// measure computes the bytes that a tensor takes. In an error, dim is the dimension that is wrong, -1 for the type.
func measure(t Type, dims []int64) (size int64, dim int, err *Error) {
	block, bytes, ok := t.Size()
	switch {
	case !ok && int64(t) < int64(len(types)):
		return 0, -1, fail(ErrUnsupported, 0, "its type %d, %v, was withdrawn by ggml and has no layout; other programs use the number for types of their own", uint32(t), t)
	case !ok:
		return 0, -1, fail(ErrUnsupported, 0, "its type is %d; types up to %d are known", uint32(t), len(types)-1)
	}
	count := int64(1)
	for i, n := range dims {
		if n == 0 {
			return 0, i, fail(ErrFormat, 0, "dimension %d is 0: a tensor without values", i)
		}
		hi, lo := bits.Mul64(uint64(count), uint64(n))
		if n < 0 || hi != 0 || lo > math.MaxInt/4 { // as float32 it must have a size in memory
			return 0, i, fail(ErrFormat, 0, "its dimensions %v overflow", dims)
		}
		count = int64(lo)
	}
	if dims[0]%int64(block) != 0 {
		return 0, 0, fail(ErrBlock, 0, "rows of %d weights; %v takes blocks of %d", dims[0], t, block)
	}
	hi, lo := bits.Mul64(uint64(count/int64(block)), uint64(bytes))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, 0, fail(ErrFormat, 0, "its dimensions %v overflow as %v", dims, t)
	}
	return int64(lo), 0, nil
}
