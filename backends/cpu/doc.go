// SPDX-License-Identifier: Apache-2.0

// Package cpu is the backend in pure Go: always there, complete, and the oracle that every other backend is held
// against. Portable Go without assembly, branch-free where data would mislead the predictor, with several accumulators.
//
// Built with GOEXPERIMENT=simd on amd64, the k-means scores use vector instructions through simd/archsimd, with the same bits.
package cpu
