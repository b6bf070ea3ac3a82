// SPDX-License-Identifier: Apache-2.0

// Package runtime is Setun's public API: it sends each call to the fastest kernel for its size on this machine.
//
// It has the name of a standard package, so give it another one where you import it:
//
//	import setun "github.com/setun-compute/setun/runtime"
//
//	rt, err := setun.Open()
//	if err != nil { … }
//	defer rt.Close()
//	q, err := rt.Quantize(nil, weights, quant.Options{})      // ternary codes and a scale
//	step, norm, err := rt.Constrain(nil, delta, 1.0)          // ‖step‖₂ ≤ 1
//	c, err := rt.KMeans(ctx, nil, points, 64, setun.KMeansOptions{K: 100})
//
// Pure Go serves every call from the start. Where the native libraries are installed (`make native`) they compete; `calibrate
// run` measures who wins from which size. Whichever kernel runs, the result has the same bits: docs/numerics.md.
//
// Nothing falls back in silence: [Runtime.Report] tells what was found, loaded and refused, [Runtime.Explain] why a call goes where it
// goes, [Runtime.Metrics] what ran and what failed over.
//
// A GPU is one more backend ([WithCUDA]): calls on slices go there when that pays with the copies, and a [Buffer] keeps values there between calls.
//
// Destinations come first. A nil destination is allocated, another is filled and used again; in the steady state Quantize,
// Constrain, Step, Dot and Norm2 allocate nothing. A Runtime may be used by any number of goroutines at once.
package runtime
