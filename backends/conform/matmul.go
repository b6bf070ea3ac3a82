// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"fmt"
	"math"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
)

// layout of a product: whether A and B are stored transposed, whether C is added to, values between rows and between matrices.
type layout struct {
	transA, transB, accumulate bool
	gap, batch                 int
	sharedB                    bool
}

func layouts() (list []layout) {
	for i := range 8 {
		list = append(list, layout{transA: i&1 != 0, transB: i&2 != 0, accumulate: i&4 != 0, gap: i % 3 * 5, batch: 1 + i%4, sharedB: i%5 == 2})
	}
	return list
}

// argument makes the argument of a product over values of a kind.
func (l layout) argument(kind string, m, n, k int) backends.MatMul {
	rowsA, colsA, rowsB, colsB := m, k, k, n
	if l.transA {
		rowsA, colsA = k, m
	}
	if l.transB {
		rowsB, colsB = n, k
	}
	a := backends.MatMul{M: m, N: n, K: k, TransA: l.transA, TransB: l.transB, Accumulate: l.accumulate, LDA: colsA + l.gap, LDB: colsB + l.gap, LDC: n + l.gap, Batch: l.batch}
	a.StrideA, a.StrideB, a.StrideC = rowsA*a.LDA+l.gap, rowsB*a.LDB+l.gap, m*a.LDC+l.gap
	if l.sharedB {
		a.StrideB = 0
	}
	a.A, a.B = data(kind, (l.batch-1)*a.StrideA+rowsA*a.LDA, 3), data(kind, (l.batch-1)*a.StrideB+rowsB*a.LDB+1, 1)
	a.C = data("normal", l.batch*a.StrideC, 2)
	return a
}

// products compares shapes around blocks, tiles and slices with pure Go. Gaps of C must stay as they are.
func (s *suite) products() {
	sides := []int{1, 2, 3, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 31, 32, 33, 47, 65}
	large := [][3]int{{70, 90, 513}, {29, 300, 1025}, {171, 260, 40}, {4100, 3, 2}, {3, 4100, 2}, {1, 257, 100}, {257, 1, 100}}
	if testing.Short() {
		sides, large = []int{1, 7, 14, 33}, [][3]int{{70, 90, 513}}
	}
	all := layouts()
	for i, m := range sides {
		for j, n := range sides {
			t := i*len(sides) + j
			s.product(kinds[t%len(kinds)], all[t%len(all)], m, n, sides[(t*7)%len(sides)])
		}
	}
	for i, v := range large {
		for _, l := range all {
			s.product(kinds[i%4], l, v[0], v[1], v[2])
		}
	}
	if s.k.Fast {
		return
	}
	for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32} { // they propagate
		for _, l := range all {
			a := l.argument("few", 20, 40, 15)
			for i := 0; i < len(a.A); i += 97 {
				a.A[i] = v
			}
			a.B[len(a.B)/2] = v
			s.productCase(fmt.Sprintf("few with %v %+v", v, l), a)
		}
	}
}

func (s *suite) product(kind string, l layout, m, n, k int) {
	if s.k.Fast {
		if kind != "wide" && kind != "huge" { // no bound covers overflow
			s.boundedCase(fmt.Sprintf("%s %+v %dx%dx%d", kind, l, m, n, k), l.argument(kind, m, n, k))
		}
		return
	}
	s.productCase(fmt.Sprintf("%s %+v %dx%dx%d", kind, l, m, n, k), l.argument(kind, m, n, k))
}

// boundedCase holds a kernel whose order of summation is not known against the rounding that any order can have: |fl − exact| ≤ γ·(|c| + Σ|a||b|) + (k+1)·2^-149 with
// γ = (k+1)u/(1 − (k+1)u), u = 2^-24, for a sum of k products and what C held (Higham, Accuracy and Stability, section 3.1; the last term is underflow). The sums here are in float64, and
// their own error widens γ by less than one part in 2^20. The bound must say something: γ below 1/100, and some value must be larger than its bound.
func (s *suite) boundedCase(name string, a backends.MatMul) {
	s.cases++
	before := append([]float32(nil), a.C...)
	if err := a.Check(); err != nil {
		s.Fatalf("%s: the case itself is wrong: %v", name, err)
	}
	if err := s.b.MatMul(s.k, &a); err != nil {
		s.Fatalf("%s: %v", name, err)
	}
	steps := float64(a.K+1) * 0x1p-24
	gamma := steps / (1 - steps) * (1 + 0x1p-20)
	if gamma > 0.01 {
		s.Fatalf("%s: the bound says nothing, γ = %v", name, gamma)
	}
	written := make([]bool, len(a.C))
	for q := range a.Batch {
		for i := range a.M {
			for j := range a.N {
				at := q*a.StrideC + i*a.LDC + j
				exact, size := 0.0, 0.0
				if a.Accumulate {
					exact, size = float64(before[at]), math.Abs(float64(before[at]))
				}
				for p := range a.K {
					u, v := q*a.StrideA+i*a.LDA+p, q*a.StrideB+p*a.LDB+j
					if a.TransA {
						u = q*a.StrideA + p*a.LDA + i
					}
					if a.TransB {
						v = q*a.StrideB + j*a.LDB + p
					}
					product := float64(a.A[u]) * float64(a.B[v])
					exact += product
					size += math.Abs(product)
				}
				bound := gamma*size + float64(a.K+1)*0x1p-149
				if !(math.Abs(float64(a.C[at])-exact) <= bound) {
					s.Fatalf("%s: value %d is %v, %v ± %v is right", name, at, a.C[at], exact, bound)
				}
				written[at] = true
				s.telling = s.telling || math.Abs(exact) > bound
			}
		}
	}
	for i, v := range before {
		if !written[i] && math.Float32bits(v) != math.Float32bits(a.C[i]) {
			s.Fatalf("%s: value %d of a gap changed from %v to %v", name, i, v, a.C[i])
		}
	}
}

func (s *suite) productCase(name string, a backends.MatMul) {
	s.cases++
	if err := a.Check(); err != nil {
		s.Fatalf("%s: the case itself is wrong: %v", name, err)
	}
	want, got := a, a
	want.C, got.C = append([]float32(nil), a.C...), append([]float32(nil), a.C...)
	errWant, errGot := cpu.Backend{}.MatMul(backends.Kernel{}, &want), s.b.MatMul(s.k, &got)
	if errWant != nil || errGot != nil {
		s.Fatalf("%s: %v, pure Go: %v", name, errGot, errWant)
	}
	for i, v := range want.C {
		if g := got.C[i]; math.Float32bits(v) != math.Float32bits(g) && (v == v || g == g) { // a NaN is a NaN, whatever its payload
			s.Fatalf("%s: value %d is %v, pure Go %v", name, i, g, v)
		}
	}
}
