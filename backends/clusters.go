// SPDX-License-Identifier: Apache-2.0

package backends

import (
	"fmt"
	"sync/atomic"
)

// Clusters is the argument of the op constrain-clusters. Either Offsets or Labels is set.
type Clusters struct {
	X, Dst  []float32 // equal lengths; the same memory, or memory that does not overlap
	XAt     Address   // where on the device; 0: in the slice
	DstAt   Address
	Offsets []int64   // K+1, from 0 to len(X), never falling: cluster c is X[Offsets[c]:Offsets[c+1]]
	Labels  []int32   // the cluster of each row of len(X)/len(Labels) values; −1: none
	Radii   []float64 // K, at least 0, may be infinite
	Norms   []float64 // out, K: ‖cluster‖₂
	Cancel  *atomic.Int32
}

// Check validates the argument. Labels and offsets are read once.
func (a *Clusters) Check() error {
	n, k := len(a.X), len(a.Radii)
	fail := func(sentinel error, detail string, args ...any) error {
		return Fail(sentinel, OpClusters, fmt.Sprintf("%dx%d", n, k), detail, args...)
	}
	switch {
	case n == 0:
		return fail(ErrArgument, "x is empty")
	case k == 0:
		return fail(ErrArgument, "there are no radii")
	case len(a.Norms) != k:
		return fail(ErrShape, "%d norms for %d radii", len(a.Norms), k)
	case len(a.Dst) != n:
		return fail(ErrShape, "dst has %d values, x has %d", len(a.Dst), n)
	case &a.X[0] != &a.Dst[0] && overlap(a.X, a.Dst):
		return fail(ErrAlias, "dst overlaps x but does not begin where x does")
	case (a.Offsets == nil) == (a.Labels == nil):
		return fail(ErrArgument, "either offsets or labels must be given")
	}
	for c, w := range a.Radii {
		if !(w >= 0) { // also NaN
			return fail(ErrArgument, "the radius of cluster %d = %v is negative or not a number", c, w)
		}
	}
	if a.Labels != nil {
		if len(a.Labels) == 0 || n%len(a.Labels) != 0 {
			return fail(ErrShape, "len(x) = %d is not a multiple of %d labels", n, len(a.Labels))
		}
		for r, l := range a.Labels {
			if l < -1 || int(l) >= k {
				return fail(ErrArgument, "label %d = %d is not within −1..%d", r, l, k-1)
			}
		}
		return nil
	}
	if len(a.Offsets) != k+1 || a.Offsets[0] != 0 || a.Offsets[k] != int64(n) {
		return fail(ErrShape, "the offsets must be %d values from 0 to %d", k+1, n)
	}
	for c := range k {
		if a.Offsets[c] > a.Offsets[c+1] {
			return fail(ErrArgument, "offset %d = %d is below offset %d = %d", c+1, a.Offsets[c+1], c, a.Offsets[c])
		}
	}
	return nil
}
