// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"math"

	"github.com/setun-compute/setun/quant"
)

// FlipRule is what the flip limit of a group of n ternary weights is made from. k = max(1, ⌊FlipShare·n⌋) codes may flip. The threshold of a weight is h = fl32(s/2), s the scale of its group
// of values: the code is ±1 where |θ| > h. h′ is the next float32 above h, so that a code stays as long as θ stays at or beyond it.
type FlipRule uint8

// The rules. Both limit flips with scales as they are before the step; a new scale moves thresholds and may flip more, which is why Report has Expected and Flips.
const (
	// AlongStep shortens this very step. Along fΔ, code i flips from f = a_i on,
	//
	//	a_i = (θ_i − h′)/−Δ_i  for code 1 and Δ_i < 0,    (h − θ_i)/Δ_i  for code 0 and Δ_i > 0,
	//
	// mirrored for the other signs, never when it moves away. The limit is f·‖Δ‖, f the (k+1)-th smallest a_i: at most k codes flip, and in most steps nothing is shortened.
	AlongStep FlipRule = iota
	// AnyDirection holds for every step of that length: with d_i = |θ_i| − h′ for codes ±1 and h − |θ_i| for code 0, flipping a set of codes takes ‖Δ‖² ≥ Σ d_i² over it, so with
	//
	//	r² < Σ of the k+1 smallest d_i²
	//
	// at most k codes flip, whatever Δ is. Far narrower than AlongStep, since no step spends all its length on the nearest codes.
	AnyDirection
)

// threshold returns h and h′ of a scale.
func threshold(scale float32) (h, outer float32) {
	h = scale / 2
	return h, math.Nextafter32(h, math.MaxFloat32)
}

// reachOf returns the least share of the step d at which the weight x changes its code; infinite for never.
func reachOf(x, d, h, outer float32) float64 {
	if d == 0 {
		return math.Inf(1)
	}
	if d < 0 { // mirrored: then it moves up
		x, d = -x, -d
	}
	switch {
	case x > h: // code 1, moving away
		return math.Inf(1)
	case x < -h:
		return (float64(-outer) - float64(x)) / float64(d)
	}
	return (float64(h) - float64(x)) / float64(d)
}

// distanceOf is how far the weight x may move without a flip.
func distanceOf(x, h, outer float32) float64 {
	if x < 0 {
		x = -x
	}
	if x > h {
		return float64(x) - float64(outer)
	}
	return float64(h) - float64(x)
}

// code is that of quantize with the threshold h.
func code(x, h float32) int8 {
	switch {
	case x > h:
		return 1
	case x < -h:
		return -1
	}
	return 0
}

// scaleRuns calls f for each run of values of a row that share a scale.
func scaleRuns(q *quant.Tensor, row int, f func(from, to int, scale float32)) {
	if q.Group == 0 {
		f(0, q.Cols, q.Scales[0])
		return
	}
	per := (q.Cols-1)/q.Group + 1
	for g := range per {
		f(g*q.Group, min((g+1)*q.Group, q.Cols), q.Scales[row*per+g])
	}
}

// limit sets p.limits for a share of codes; norms must be known. scratch has room for the values of a cluster.
func (p *part) limit(share, floor float64, from FlipRule, scratch []float64) {
	for c := range p.limits {
		p.limits[c] = math.Inf(1)
		n := int(p.span[c+1] - p.span[c])
		allowed := max(1, int(share*float64(n)))
		if allowed >= n || p.norms[c] == 0 {
			continue
		}
		near := scratch[:0]
		first, last := p.places(c)
		for i := first; i < last; i++ {
			r := p.row(i)
			value, delta := p.Value[r*p.Cols:][:p.Cols], p.delta[r*p.Cols:][:p.Cols]
			scaleRuns(p.before, r, func(b, e int, scale float32) {
				h, outer := threshold(scale)
				for j := b; j < e; j++ {
					if from == AnyDirection {
						near = append(near, distanceOf(value[j], h, outer))
					} else if a := reachOf(value[j], delta[j], h, outer); a <= 1 {
						near = append(near, a)
					}
				}
			})
		}
		if len(near) <= allowed {
			continue // the whole step flips no more than that
		}
		selectNth(near, allowed)
		if from == AnyDirection {
			sum := 0.0
			for _, d := range near[:allowed+1] {
				sum += float64(d * d)
			}
			p.limits[c] = math.Sqrt(sum) * inward
		} else {
			p.limits[c] = near[allowed] * p.norms[c] * inward
		}
		p.limits[c] = max(p.limits[c], floor*p.norms[c])
	}
}

// flips returns how many codes differ from before with the scales of that; before may be nil.
func (p *part) flips() (flips int64) {
	if p.before == nil {
		return 0
	}
	for r := range p.Rows {
		value, codes := p.Value[r*p.Cols:][:p.Cols], p.before.Codes[r*p.Cols:][:p.Cols]
		scaleRuns(p.before, r, func(b, e int, scale float32) {
			h := scale / 2
			for j := b; j < e; j++ {
				if code(value[j], h) != codes[j] {
					flips++
				}
			}
		})
	}
	return flips
}

// selectNth moves the n-th smallest value (from 0) to v[n], those not above it before it (Hoare's algorithm 65, pivot the median of three).
func selectNth(v []float64, n int) {
	for lo, hi := 0, len(v)-1; lo < hi; {
		a, b, c := v[lo], v[lo+(hi-lo)/2], v[hi]
		pivot := max(min(a, b), min(max(a, b), c))
		i, j := lo, hi
		for i <= j {
			for v[i] < pivot {
				i++
			}
			for v[j] > pivot {
				j--
			}
			if i <= j {
				v[i], v[j] = v[j], v[i]
				i++
				j--
			}
		}
		switch {
		case n <= j:
			hi = j
		case n >= i:
			lo = i
		default:
			return
		}
	}
}
