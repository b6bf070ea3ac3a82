// SPDX-License-Identifier: Apache-2.0

// Package canon holds the pieces of canonical arithmetic that more than one package needs: the one shape of a sum,
// the exact float32 fused multiply-add, and counter-based random draws. docs/numerics.md is their definition.
package canon
