// SPDX-License-Identifier: Apache-2.0

package hwfma

import "github.com/klauspost/cpuid/v2"

// Available tells whether the processor has the instruction, and the system keeps its registers.
func Available() bool { return cpuid.CPU.Supports(cpuid.AVX, cpuid.FMA3) }

//go:noescape
func fma(dst, a, b, c *float32, n int)
