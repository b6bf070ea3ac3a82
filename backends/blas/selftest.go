// SPDX-License-Identifier: Apache-2.0

package blas

import (
	"fmt"
	"runtime"

	"github.com/setun-compute/setun/backends"
)

// selfTest multiplies small matrices of integers, whose products any order of summation gives exactly, in every layout; and looks whether the library
// left the float environment of the thread as it was.
func selfTest(b *Backend) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const m, n, k, gap = 3, 5, 7, 2
	for flags := range 8 {
		a := backends.MatMul{M: m, N: n, K: k, TransA: flags&1 != 0, TransB: flags&2 != 0, Accumulate: flags&4 != 0, LDA: k + gap, LDB: n + gap, LDC: n + gap, Batch: 1}
		rowsA, rowsB := m, k
		if a.TransA {
			rowsA, a.LDA = k, m+gap
		}
		if a.TransB {
			rowsB, a.LDB = n, k+gap
		}
		a.A, a.B, a.C = integers(rowsA*a.LDA), integers(rowsB*a.LDB), integers(m*a.LDC)
		want := append([]float32(nil), a.C...)
		for i := range m {
			for j := range n {
				c := &want[i*a.LDC+j]
				if !a.Accumulate {
					*c = 0
				}
				for p := range k {
					u, v := i*a.LDA+p, p*a.LDB+j
					if a.TransA {
						u = p*a.LDA + i
					}
					if a.TransB {
						v = j*a.LDB + p
					}
					*c += float32(a.A[u] * a.B[v])
				}
			}
		}
		if err := b.MatMul(b.kernel, &a); err != nil {
			return err
		}
		for i, v := range want {
			if a.C[i] != v {
				return fmt.Errorf("%w: in its self-test (layout %d) value %d of a product is %v, not %v", backends.ErrLibrary, flags, i, a.C[i], v)
			}
		}
	}
	if !environment(1, 0x1p-53, 0x1p-1060) {
		return fmt.Errorf("%w: it changed how the processor rounds or treats subnormal values", backends.ErrLibrary)
	}
	return nil
}

// integers are small and all different in sign and size.
func integers(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32((i*i+3*i)%23 - 11)
	}
	return x
}

// environment tells whether sums round to nearest, ties to even, and subnormal values are neither read nor written as zeros. The arguments keep the compiler from knowing.
//
//go:noinline
func environment(one, half, tiny float64) bool {
	return one+half == one && one+1.5*half > one && -one-half == -one && -one-1.5*half < -one && tiny*0.5 > 0 && tiny+tiny > tiny
}
