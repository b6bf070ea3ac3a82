// SPDX-License-Identifier: Apache-2.0

// Package parallel lets several processes train one model: each computes gradients of batches of its own, their sum is the same on all to the last bit, and so is the step that follows.
//
//	peers, err := parallel.Open()    // Alone, or one of those that mpirun started
//	...
//	defer peers.Close()
//
// [Peers] are the ranks of a run and the two ways in which they exchange bytes. [Open] finds out whether mpirun started this process; only then it loads the system's MPI library, at run time and without a build: Open MPI (4 and 5), or what has MPICH's ABI (MPICH,
// Intel MPI). [Local] are ranks within one process. The [Forum] is how ranks agree, so that an error of one stops all and none waits for ever; [NewFloats] and [NewCodes] add up gradients, as float32 or as ternary codes with error feedback.
//
// # Order of additions
//
// No sum is left to MPI, whose order depends on library and network. A gradient is fl32(Σ_r g_r), added in float64 from rank 0 on: by float32 g_r is rank r's value, by codes scale·code of what rank r sent. Numbers on the wire are as they lie in memory: ranks of
// one run have one byte order. The result is the same on every rank, in every run, with every library; another number of ranks adds other terms.
package parallel
