// SPDX-License-Identifier: Apache-2.0

package dispatch

import "github.com/setun-compute/setun/backends"

// Arm identifies a kernel.
type Arm struct {
	Backend, Kernel string
	Threads         int
}

// String returns "backend/kernel".
func (a Arm) String() string { return a.Backend + "/" + a.Kernel }

// speed is what a kernel of some kind is expected to reach: nanoseconds before any work, bytes a nanosecond, flops a nanosecond.
type speed struct{ launch, bytes, flops float64 }

// expected holds round figures for one core of a current server processor. They only have to put the arms in the right
// order until `calibrate run` has measured.
var expected = map[string]speed{
	"go":     {30, 4, 3},
	"scalar": {150, 1.5, 0.8},
	"sse42":  {150, 20, 4},
	"avx2":   {150, 40, 70},
	"avx512": {150, 45, 80},
	"neon":   {150, 30, 40},
}

// unknownSpeed is for a kernel of a name never heard of: a little better than pure Go, at a native call's price.
var unknownSpeed = speed{200, 6, 6}

// Prior returns the coefficients of an arm before any measurement.
func Prior(op backends.Op, a Arm) Coef {
	s, ok := expected[a.Kernel]
	if !ok {
		s = unknownSpeed
	}
	t := float64(max(1, a.Threads))
	if t > 1 {
		s.launch += 2000 // waking threads
	}
	switch op {
	case backends.OpQuantize:
		return Coef{s.launch, 0.5 / (s.bytes * t), 1 / (s.bytes * t), 10 / t}
	case backends.OpKMeans:
		return Coef{10 * s.launch, 2 / (s.flops * t), 4 / (s.bytes * t), 4 / s.bytes}
	}
	return Coef{s.launch, 1 / (s.bytes * t)}
}
