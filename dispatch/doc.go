// SPDX-License-Identifier: Apache-2.0

// Package dispatch decides which kernel runs a call. It is pure: no clock, no files, no randomness, no globals. A decision is
// a function of the shape of the call, the profile of the machine and the policy, and it can explain itself.
//
// # The model
//
// An arm is one kernel of one backend for one op. Its time, in nanoseconds, is predicted in two levels:
//
//	time(shape) = roofline(shape) × correction(variant, size)
//	roofline    = c0 + c1·f1 + c2·f2 + c3·f3,   every c ≥ 0
//
// The features f say how much work a shape is:
//
//	quantize              bytes read, bytes written, scale groups
//	constrain, dot, norm2 bytes
//	kmeans (an iteration) n·k·d, n·d, k·d
//
// c0 is what a call costs before any work: the crossing into native code, a wake-up. Before any measurement the
// coefficients come from what is known of the machine ([Prior]); [Fit] replaces them by a non-negative least-squares fit
// of the relative error, with a pull towards the prior where samples say nothing.
//
// A straight line cannot follow the steps between caches and memory. The correction does: for each half octave of size, the shrunken mean
// of log(measured/roofline), interpolated between neighbours. Few samples: the roofline is trusted; many: history is.
//
// # What is not modelled yet
//
// Learning during use, exploration, drift, calls that run beside each other, the cost of moving data to a device.
// The package takes its samples from `calibrate run`.
package dispatch
