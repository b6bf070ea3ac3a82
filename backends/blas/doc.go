// SPDX-License-Identifier: Apache-2.0

// Package blas lets the machine's own BLAS (OpenBLAS, MKL, BLIS or Accelerate) run matrix products. Nothing is built for it: the library is loaded at run time and
// called by the C interface that all of them have.
//
// A BLAS sums in an order of its own, which depends on the library, the processor and the number of threads. So its kernel is Fast: it gets only calls that ask for fast
// numerics, and is checked against a bound on rounding where the others are checked for equality. docs/blas.md says more.
package blas
