// SPDX-License-Identifier: Apache-2.0

// Package dispatch decides which kernel runs a call. It is pure: no clock, no files, no randomness, no globals that change. A decision is
// a function of the shape of the call, the profile of the machine and the policy, and it can explain itself.
//
// # The model
//
// An arm is one kernel of one backend for one op. Its time, in nanoseconds, is predicted in two levels:
//
//	time(shape) = roofline(shape) × correction(variant, size)
//	roofline    = c0 + c1·f1 + c2·f2 + c3·f3 + …,   every c ≥ 0
//
// The features f say how much work a shape is:
//
//	quantize, step        bytes read, bytes written, scale groups
//	constrain, dot, norm2 bytes
//	constrain-clusters    bytes, clusters
//	kmeans (an iteration) n·k·d, n·d, k·d, n·k, n
//	matmul                m·n·k, m·k + k·n + m·n
//
// c0 is what a call costs before any work: the crossing into native code, a wake-up. No coefficient is negative, so more
// work is never predicted to be faster by the roofline.
//
// Before any measurement the coefficients come from what is known of kernels of that name ([Prior], or [Hardware] when the
// machine is known). [Fit] replaces them by a robust non-negative least-squares fit of the relative error, with a pull towards the prior
// where samples say nothing.
//
// A straight line cannot follow the steps between caches and memory. The correction does: for each half octave of size, the shrunken
// mean of log(measured/roofline), interpolated log-linearly between neighbours and held constant beyond the last one:
//
//	correction = e^(l_a + w·(l_b − l_a)),   l = mean · τ²/(τ² + s²/n)
//
// τ = 0.5 is how large a correction usually is, s the standard deviation of one call, n the calls measured. Few samples: the
// roofline is trusted; many: history is. A class is half an octave because times rarely bend twice in one, and two classes
// an octave are few enough for a quick calibration to fill.
//
// # Learning
//
// A [Learner] turns timed calls into better routers. What was measured of an op's arms at and near a size class is explained by how far all arms are from their models together (a busy machine,
// a prior for another) and how far each is by itself, both shrunken by their variance; the calls near a class count 0.7 for each half octave away. Surprises in a row that are all slower, or all faster,
// are drift: what was known moves, and counts for little. An arm that could be faster than the best, as far as is known, is tried now and then ([Probe]), within a hundredth of the time spent.
// docs/dispatcher.md has the formulas.
//
// Calls that run beside others do not teach anything; for them an arm on several threads counts as that many times slower.
//
// # Devices
//
// An arm may work in a device's memory. Its time includes copying what it needs and is elsewhere, and what must come back ([Link]): for slices of the program everything, for buffers that know where they are
// ([Residence], [Router.DecideAt]) what is missing. A buffer that many calls would rather have elsewhere is moved once staying has cost them as much as moving.
//
// # What is certain
//
// Predictions are finite and at least one nanosecond. Equal predictions go to the arm that is listed first. A forced kernel is obeyed whatever its
// prediction and thresholds. The same router gives the same answer to the same question, in any goroutine; a learner gives the same routers for the same calls in the same order.
//
// # What is not modelled yet
//
// The first touch of fresh memory, clock changes, whether threads are asleep.
package dispatch
