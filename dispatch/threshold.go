// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"

	"github.com/setun-compute/setun/backends"
)

// Threshold says that an arm is the fastest from a size on.
type Threshold struct {
	Op   string `json:"op"`
	Arm  string `json:"arm"`
	From int64  `json:"from"` // values; points of 64 values with 64 clusters for kmeans
}

const (
	sweepSteps   = 8  // sizes tried an octave; a win over less than that may be missed
	sweepOctaves = 32 // up to 2^32 values
	sweepKMeans  = 64 // dimension and clusters
)

// Thresholds lists from which size each arm wins, over the canonical shapes of an op, to the value exactly. One entry means that there is no crossing;
// none, that no arm can run some size.
func (r *Router) Thresholds(op backends.Op) []Threshold {
	var list []Threshold
	first := int64(1)
	if op == backends.OpKMeans {
		first = sweepKMeans // there are at least as many points as clusters
	}
	below, last := first, -1
	for i := range sweepSteps*sweepOctaves + 1 {
		n := int64(math.Round(math.Exp2(float64(i) / sweepSteps)))
		if n < first {
			continue
		}
		now := r.winner(op, n)
		if now < 0 {
			return nil
		}
		if now != last {
			from := n
			for lo := below; lo < from-1 && last >= 0; { // the new winner loses at lo and wins at from
				if mid := lo + (from-lo)/2; r.winner(op, mid) == now {
					from = mid
				} else {
					lo = mid
				}
			}
			list = append(list, Threshold{op.String(), r.arms[op][now].String(), from})
		}
		below, last = n, now
	}
	return list
}

// winner returns the arm that is chosen for n values.
func (r *Router) winner(op backends.Op, n int64) int {
	s := Shape{Op: op, N: n}
	switch op {
	case backends.OpQuantize:
		s.Groups, s.Out = 1, n
	case backends.OpKMeans:
		s.D, s.K = sweepKMeans, sweepKMeans
	}
	return r.Decide(&s, 0).Arm
}
