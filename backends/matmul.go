// SPDX-License-Identifier: Apache-2.0

package backends

import (
	"fmt"
	"sync/atomic"
)

// MatMul is the argument of the op matmul: C = A·B, or C += A·B, for each of Batch products. A is M rows of K values, or stored as K rows of M when TransA; B is K rows
// of N, or N rows of K when TransB; C is M rows of N.
type MatMul struct {
	A, B, C                   []float32
	AAt, BAt, CAt             Address
	M, N, K                   int
	TransA, TransB            bool
	Accumulate                bool
	LDA, LDB, LDC             int // values from a stored row to the next
	Batch                     int
	StrideA, StrideB, StrideC int // values from one product's matrix to the next one's; 0 for A or B: all products share it
	Cancel                    *atomic.Int32
}

// Shape formats the sizes as errors show them: "MxNxK", and the batch when there is one.
func (a *MatMul) Shape() string {
	s := fmt.Sprintf("%dx%dx%d", a.M, a.N, a.K)
	if a.Batch > 1 {
		s += fmt.Sprintf(" batch=%d", a.Batch)
	}
	return s
}

// maxValues bounds a matrix or a batch of them: more cannot be in memory.
const maxValues = 1 << 45

// SizeC returns how many values C must have at least. The sizes must have passed Check.
func (a *MatMul) SizeC() int { return (a.Batch-1)*a.StrideC + (a.M-1)*a.LDC + a.N }

// Check validates sizes, lengths and overlap. A C that is nil passes: it is to be allocated, with SizeC values. The values are not looked at: what is not finite propagates.
func (a *MatMul) Check() error {
	fail := func(sentinel error, detail string, args ...any) error {
		return Fail(sentinel, OpMatMul, a.Shape(), detail, args...)
	}
	for _, s := range []struct {
		name string
		size int
	}{{"m", a.M}, {"n", a.N}, {"k", a.K}, {"batch", a.Batch}} {
		if s.size < 1 {
			return fail(ErrArgument, "%s = %d is not positive", s.name, s.size)
		}
	}
	var used [3][]float32
	for i, s := range []struct {
		name           string
		v              []float32
		rows, cols, ld int
		stride         int
		trans          bool
	}{
		{"a", a.A, a.M, a.K, a.LDA, a.StrideA, a.TransA},
		{"b", a.B, a.K, a.N, a.LDB, a.StrideB, a.TransB},
		{"c", a.C, a.M, a.N, a.LDC, a.StrideC, false},
	} {
		if s.trans {
			s.rows, s.cols = s.cols, s.rows
		}
		one := float64(s.rows-1)*float64(s.ld) + float64(s.cols)
		need := float64(a.Batch-1)*float64(s.stride) + one
		switch {
		case s.ld < s.cols:
			return fail(ErrArgument, "ld%s = %d is less than the %d values of a row", s.name, s.ld, s.cols)
		case s.stride < 0:
			return fail(ErrArgument, "stride of %s = %d is negative", s.name, s.stride)
		case s.name == "c" && a.Batch > 1 && float64(s.stride) < one:
			return fail(ErrArgument, "stride of c = %d: products of %.0f values would overlap", s.stride, one)
		case need > maxValues:
			return fail(ErrShape, "%s would have %.0f values", s.name, need)
		case s.name == "c" && s.v == nil:
			return nil
		case len(s.v) < int(need):
			return fail(ErrShape, "%s has %d values, %.0f are needed", s.name, len(s.v), need)
		}
		used[i] = s.v[:int(need)]
	}
	switch c := used[2]; {
	case overlap(c, used[0]):
		return fail(ErrAlias, "c overlaps a")
	case overlap(c, used[1]):
		return fail(ErrAlias, "c overlaps b")
	}
	return nil
}
