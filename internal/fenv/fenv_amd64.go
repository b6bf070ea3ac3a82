// SPDX-License-Identifier: Apache-2.0

package fenv

// watched leaves the flags out that operations raise.
const watched control = 0xffc0

var fields = []field{
	{1 << 15, "flush to zero"},
	{1 << 6, "denormals are zero"},
	{3 << 13, "rounding mode"},
	{0x3f << 7, "exception masks"},
}

// get reads MXCSR, set writes it.
func get() control
func set(c control)
