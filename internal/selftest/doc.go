// SPDX-License-Identifier: Apache-2.0

// Package selftest holds every kernel of a backend against pure Go on a few small shapes, in milliseconds: what a library must pass before a program uses it.
//
// It is no replacement for backends/conform, which takes minutes and finds more. Results must have the bits of pure Go. Kernels whose results are not canonical get data on
// which any order of summation is exact, so they are held to the same bits. Inputs must stay as they were, and memory on both sides of every operand too.
package selftest
