// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"context"
	"math"
	"runtime"

	gonum "gonum.org/v1/gonum/blas/gonum"

	"gonum.org/v1/gonum/blas"

	"github.com/setun-compute/setun/backends"
)

// Gonum is the backend "cpu" with one kernel, gonum's matrix product: pure Go and assembly, on all processors. It is Fast: the order of its sums is its own.
type Gonum struct{ Backend }

// Kernels returns the kernel "gonum" of matmul.
func (Gonum) Kernels() []backends.Kernel {
	return []backends.Kernel{{Op: backends.OpMatMul, Name: "gonum", Threads: runtime.GOMAXPROCS(0), Fast: true}}
}

// MatMul computes the products of a batch, one after the other. A context is looked at between products only.
func (Gonum) MatMul(k backends.Kernel, a *backends.MatMul) error {
	if max(a.M, a.N, a.K) > math.MaxInt32 {
		return backends.Fail(backends.ErrUnsupported, k.Op, a.Shape(), "too large for gonum")
	}
	transA, transB, beta := blas.NoTrans, blas.NoTrans, float32(0)
	if a.TransA {
		transA = blas.Trans
	}
	if a.TransB {
		transB = blas.Trans
	}
	if a.Accumulate {
		beta = 1
	}
	for q := range a.Batch {
		if cancelled(a.Cancel) {
			return context.Canceled
		}
		gonum.Implementation{}.Sgemm(transA, transB, a.M, a.N, a.K, 1, a.A[q*a.StrideA:], a.LDA, a.B[q*a.StrideB:], a.LDB, beta, a.C[q*a.StrideC:], a.LDC)
	}
	return nil
}
