// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"fmt"
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
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

// argument makes the argument of a product of values that draw gives.
func (l layout) argument(m, n, k int, draw func(n int) []float32) backends.MatMul {
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
	// No value behind the last one that the product needs.
	a.A, a.B = draw((l.batch-1)*a.StrideA+(rowsA-1)*a.LDA+colsA), draw((l.batch-1)*a.StrideB+(rowsB-1)*a.LDB+colsB)
	a.C = draw(a.SizeC())
	return a
}

// products compares shapes around blocks, tiles and slices. Gaps of C must stay as they are.
func (s *suite) products() {
	sides := []int{1, 2, 3, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 31, 32, 33, 47, 65}
	large := [][3]int{{70, 90, 513}, {29, 300, 1025}, {171, 260, 40}, {4100, 3, 2}, {3, 4100, 2}, {1, 257, 100}, {257, 1, 100}}
	if s.o.Short {
		sides, large = []int{1, 7, 14, 33}, [][3]int{{70, 90, 513}}
	}
	all := layouts()
	for i, m := range sides {
		for j, n := range sides {
			t := i*len(sides) + j
			for r := range 4 {
				s.product(kinds[(t+r*5)%len(kinds)], all[(t+r)%len(all)], m, n, sides[(t*7+r)%len(sides)])
			}
		}
	}
	for i, v := range large {
		for _, l := range all {
			s.product(kinds[i], l, v[0], v[1], v[2])
		}
	}
	for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32} { // they propagate
		for _, l := range all {
			a := l.argument(20, 40, 15, func(n int) []float32 { return s.data("few", n) })
			a.A, a.B = slices.Clone(a.A), slices.Clone(a.B)
			for i := 0; i < len(a.A); i += 97 {
				a.A[i] = v
			}
			a.B[len(a.B)/2] = v
			s.productCase(fmt.Sprintf("few with %v %+v", v, l), a)
		}
	}
}

func (s *suite) product(kind string, l layout, m, n, k int) {
	name, seed := fmt.Sprintf("%s %+v %dx%dx%d", kind, l, m, n, k), uint64(0)
	a := l.argument(m, n, k, func(n int) []float32 { seed++; return s.draw(kind, n, seed) })
	s.productCase(name, a)
	if kind != "wide" && kind != "huge" { // no bound covers overflow
		for _, f := range s.fast {
			s.one(f, name, func(c *call) { bounded(c, f, a) })
		}
	}
}

func (s *suite) productCase(name string, a backends.MatMul) {
	s.compare(name, func(c *call) {
		a := a
		a.A, a.B, a.C = input(c, a.A), input(c, a.B), inout(c, a.C)
		if err := a.Check(); err != nil {
			c.wrong("the case itself is wrong: %v", err)
			return
		}
		c.failed(c.Backend.MatMul(c.Kernel, &a))
		record(&c.out, "value", a.C)
	})
}

// bounded holds a kernel whose order of summation is not known against the rounding that any order can have: |fl − exact| ≤ γ·(|c| + Σ|a||b|) + (k+1)·2^-149 with
// γ = (k+1)u/(1 − (k+1)u), u = 2^-24, for a sum of k products and what C held (Higham, Accuracy and Stability, section 3.1; the last term is underflow). The sums here are in float64, and
// their own error widens γ by less than one part in 2^20. The bound must say something: γ below 1/100, and some value must be larger than its bound.
func bounded(c *call, f *arm, a backends.MatMul) {
	before := a.C
	a.A, a.B, a.C = input(c, a.A), input(c, a.B), inout(c, a.C)
	if err := c.Backend.MatMul(c.Kernel, &a); err != nil {
		c.wrong("%v", err)
		return
	}
	steps := float64(a.K+1) * 0x1p-24
	gamma := steps / (1 - steps) * (1 + 0x1p-20)
	if gamma > 0.01 {
		c.wrong("the bound says nothing, γ = %v", gamma)
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
					c.wrong("value %d is %v, %v ± %v is right", at, a.C[at], exact, bound)
					return
				}
				written[at] = true
				f.telling = f.telling || math.Abs(exact) > bound
			}
		}
	}
	for i, v := range before {
		if !written[i] && math.Float32bits(v) != math.Float32bits(a.C[i]) {
			c.wrong("value %d of a gap changed from %v to %v", i, v, a.C[i])
			return
		}
	}
}

func (s *suite) randomProduct(d *draws) {
	m, n := d.matrix()
	_, k := d.matrix()
	n, k = min(n, 300), min(k, 300)
	m = max(1, min(m, 200_000/(n*k)))
	l := layout{d.upTo(1) == 0, d.upTo(1) == 0, d.upTo(1) == 0, d.upTo(9), 1 + d.upTo(2), d.upTo(2) == 0}
	kind := ""
	a := l.argument(m, n, k, func(n int) (x []float32) { kind, x = d.values(n); return x })
	s.productCase(fmt.Sprintf("%s %+v %dx%dx%d", kind, l, m, n, k), a)
}
