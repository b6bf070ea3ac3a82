// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"fmt"
	"math"
	"math/big"
	"testing"

	"github.com/setun-compute/setun/backends"
)

// exactFMA is a·b + c rounded once, by arithmetic without a limit on digits.
func exactFMA(a, b, c float32) float32 {
	x := new(big.Float).SetPrec(1000).SetFloat64(float64(a) * float64(b))
	f, _ := x.Add(x, new(big.Float).SetFloat64(float64(c))).Float32()
	return f
}

// TestMatMulIsTheChain compares with the definition, over layouts, ties, subnormal values and more than one slice and block.
func TestMatMulIsTheChain(t *testing.T) {
	kinds := map[string]func(v float32) float32{
		"normal":    func(v float32) float32 { return v },
		"subnormal": func(v float32) float32 { return v * 0x1p-75 },
		"ties":      func(v float32) float32 { return 1 + float32(math.Round(float64(v)*4))*0x1p-13 }, // products of 26 bits
	}
	for name, kind := range kinds {
		for _, s := range [][3]int{{1, 1, 1}, {3, 9, 7}, {5, 17, 600}, {70, 10, 20}} {
			for flags := range 8 {
				m, n, k := s[0], s[1], s[2]
				a := backends.MatMul{M: m, N: n, K: k, TransA: flags&1 != 0, TransB: flags&2 != 0, Accumulate: flags&4 != 0, LDA: k + 2, LDB: n + 1, LDC: n + 3, Batch: 2}
				rowsA, rowsB := m, k
				if a.TransA {
					rowsA, a.LDA = k, m+2
				}
				if a.TransB {
					rowsB, a.LDB = n, k+1
				}
				a.StrideA, a.StrideC = rowsA*a.LDA, m*a.LDC // one B
				a.A, a.B, a.C = normals(2*a.StrideA), normals(rowsB*a.LDB+1), normals(2*a.StrideC+2)
				for _, x := range [][]float32{a.A, a.B, a.C} {
					for i, v := range x {
						x[i] = kind(v)
					}
				}
				want := append([]float32(nil), a.C...)
				for q := range a.Batch {
					for i := range m {
						for j := range n {
							c := &want[q*a.StrideC+i*a.LDC+j]
							if !a.Accumulate {
								*c = 0
							}
							for p := range k {
								u, v := q*a.StrideA+i*a.LDA+p, p*a.LDB+j
								if a.TransA {
									u = q*a.StrideA + p*a.LDA + i
								}
								if a.TransB {
									v = j*a.LDB + p
								}
								*c = exactFMA(a.A[u], a.B[v], *c)
							}
						}
					}
				}
				if err := a.Check(); err != nil {
					t.Fatal(err)
				}
				if err := (Backend{}).MatMul(backends.Kernel{}, &a); err != nil {
					t.Fatal(err)
				}
				for i, v := range want {
					if a.C[i] != v {
						t.Fatalf("%s %v flags %d: value %d is %v, want %v", name, s, flags, i, a.C[i], v)
					}
				}
			}
		}
	}
}

func BenchmarkMatMul(b *testing.B) {
	for _, n := range []int{16, 64, 256} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			a := backends.MatMul{A: normals(n * n), B: normals(n*n + 1)[1:], C: make([]float32, n*n), M: n, N: n, K: n, LDA: n, LDB: n, LDC: n, Batch: 1}
			b.ReportAllocs()
			for b.Loop() {
				if err := (Backend{}).MatMul(backends.Kernel{}, &a); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(2*float64(n)*float64(n)*float64(n)*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
		})
	}
}
