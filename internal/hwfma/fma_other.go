// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 && !arm64

package hwfma

// Available tells whether the processor has the instruction, as far as is known here.
func Available() bool { return false }

func fma(dst, a, b, c *float32, n int) { panic("hwfma: not available") }
