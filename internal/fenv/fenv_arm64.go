// SPDX-License-Identifier: Apache-2.0

package fenv

const watched control = 0xffffffff // the raised flags are in another register, FPSR

var fields = []field{
	{1<<24 | 1<<19, "flush to zero"},
	{3 << 22, "rounding mode"},
	{1 << 25, "default NaN"},
	{1 << 26, "half-precision format"},
	{0x9f00, "exception traps"},
}

// get reads FPCR, set writes it.
func get() control
func set(c control)
