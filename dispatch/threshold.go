// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"

	"github.com/setun-compute/setun/backends"
)

// Threshold says that an arm is the one to use from a size on.
type Threshold struct {
	Op   string `json:"op"`
	Arm  string `json:"arm"`
	From int64  `json:"from"` // values; points of 64 values with 64 clusters for kmeans; rows and columns of square matrices for matmul
	// The crossing lies between these with 95 % confidence: below Low the arm before is faster, from High on this one, by more than what is not known of both. 0: that is certain at no size.
	Low  int64 `json:"low,omitempty"`
	High int64 `json:"high,omitempty"`
}

const (
	sweepSteps   = 8    // sizes tried an octave; a win over less than that may be missed
	sweepOctaves = 32   // up to 2^32 values
	sweepKMeans  = 64   // dimension and clusters
	sweepMatMul  = 16   // octaves of a matrix's side: up to 2^48 multiply-adds
	clearly      = 1.05 // a listed arm stays until another is faster by this factor: closer ties go back and forth with the noise
)

// Thresholds lists from which size an arm is the one to use, over the canonical shapes of an op, to the value exactly. An arm is
// listed once it beats the one listed before by 5 %, so the list is shorter than what Decide does with near ties. One entry means that
// there is no crossing; none, that no arm can run some size.
func (r *Router) Thresholds(op backends.Op) []Threshold {
	var list []Threshold
	first, most := int64(1), sweepOctaves
	if op == backends.OpKMeans {
		first = sweepKMeans // there are at least as many points as clusters
	}
	if op == backends.OpMatMul || op == backends.OpTernary {
		most = sweepMatMul
	}
	below, last := first, -1
	for i := range sweepSteps*most + 1 {
		n := int64(math.Round(math.Exp2(float64(i) / sweepSteps)))
		if n < first {
			continue
		}
		s := canonical(op, n)
		now := r.Decide(&s, 0).Arm
		if now < 0 {
			return nil
		}
		if last < 0 || r.beats(op, now, last, n) {
			from := n
			for lo := below; lo < from-1 && last >= 0; { // it does not at lo and does at from
				if mid := lo + (from-lo)/2; r.beats(op, now, last, mid) {
					from = mid
				} else {
					lo = mid
				}
			}
			t := Threshold{Op: op.String(), Arm: r.arms[op][now].String(), From: from}
			if last >= 0 {
				t.Low, t.High = r.between(op, last, now, from, first, int64(1)<<most)
			}
			list = append(list, t)
			last = now
		}
		below = n
	}
	return list
}

// between returns the largest size up to a crossing at which the arm before is certainly faster, and the smallest from it on at which the one after is; 0 for none.
func (r *Router) between(op backends.Op, before, after int, at, first, most int64) (low, high int64) {
	step := math.Exp2(1. / sweepSteps)
	for n := float64(at); low == 0 && n >= float64(first); n /= step {
		if r.lead(op, before, after, int64(n)) > 1 {
			low = int64(n)
		}
	}
	for n := float64(at); high == 0 && n <= float64(most); n *= step {
		if r.lead(op, after, before, int64(math.Ceil(n))) > 1 {
			high = int64(math.Ceil(n))
		}
	}
	return low, high
}

// lead is how far an arm is ahead of another, beside what is not known of both with 95 % confidence: above 1 it is certainly faster.
func (r *Router) lead(op backends.Op, arm, other int, n int64) float64 {
	s := canonical(op, n)
	f := s.features()
	a, b := r.alone(&s, arm, &f), r.alone(&s, other, &f)
	variance := least * least
	for _, i := range []int{arm, other} {
		c := lookup(&r.models[op][i], keyOf(&s))
		variance += c.spread * c.spread / float64(max(1, c.samples))
	}
	return math.Log(b/a) / (1.96 * math.Sqrt(variance))
}

// beats says whether one arm is clearly faster than another for n values, or the other may not run.
func (r *Router) beats(op backends.Op, arm, other int, n int64) bool {
	s := canonical(op, n)
	f := s.features()
	a, b := &r.entries[op][arm], &r.entries[op][other]
	if s.Work() < a.from {
		return false
	}
	return s.Work() < b.from || clearly*r.alone(&s, arm, &f) < r.alone(&s, other, &f)
}

// alone is what an arm takes for operands that are slices of the program.
func (r *Router) alone(s *Shape, arm int, f *[numFeatures]float64) float64 {
	t, _ := r.expects(s, arm, f)
	if r.devices[s.Op] {
		m := r.hosted(s)
		t += m.takes[r.arms[s.Op][arm].Memory]
	}
	return t
}

// canonical is the shape that thresholds are counted in.
func canonical(op backends.Op, n int64) Shape {
	s := Shape{Op: op, N: n}
	switch op {
	case backends.OpQuantize, backends.OpStep:
		s.Groups, s.Out = 1, n
	case backends.OpClusters:
		s.K = 1
	case backends.OpKMeans:
		s.D, s.K = sweepKMeans, sweepKMeans
	case backends.OpMatMul:
		s.M, s.K, s.Batch = n, n, 1
	case backends.OpTernary: // a square matrix of 2-bit codes and one row
		s.K, s.M, s.Out, s.Groups = n, 1, n*((n+3)/4), 1
	case backends.OpActivations:
		s.M = 1
	case backends.OpRecode:
		s.Out = n
	case backends.OpRMSNorm, backends.OpSoftmax, backends.OpActivate: // rows of 64
		s.M, s.K = (n+63)/64, 64
	}
	return s
}
