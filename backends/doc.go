// SPDX-License-Identifier: Apache-2.0

// Package backends is the vocabulary between the runtime and what computes: the [Backend] interface, one argument
// struct an op, and the errors.
//
// A backend offers kernels. A kernel is one implementation of one op ("quantize with AVX2") and one arm of the
// dispatcher. Arguments are checked once, by their Check method, before a kernel sees them. Results are those of
// docs/numerics.md, bit for bit, whichever kernel runs; package cpu (pure Go, always there) is the oracle.
package backends
