// SPDX-License-Identifier: Apache-2.0

package hwfma

// Available tells whether the processor has the instruction: every one of this architecture has.
func Available() bool { return true }

//go:noescape
func fma(dst, a, b, c *float32, n int)
