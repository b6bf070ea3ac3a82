// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestGaussianErrors derives the constants of the error model: codes by the nearest level and scale by least squares, in turn, on a Gaussian density.
func TestGaussianErrors(t *testing.T) {
	density := func(x float64) float64 { return math.Exp(-x*x/2) / math.Sqrt(2*math.Pi) }
	beyond := func(x float64) float64 { return math.Erfc(x / math.Sqrt2) } // of |x|
	s, q := 1.0, 1.0
	var three, five float64
	for range 10_000 {
		n, a := beyond(s/2), 2*density(s/2) // share and Σ|x| of the codes ±1
		s, three = a/n, 1-a*a/n
		n2 := beyond(0.75 * q)
		n1 := beyond(q/4) - n2
		a = 2*density(0.75*q) + (density(q/4) - density(0.75*q)) // half of Σ|x| for the codes ±1, which stand for q/2
		q, five = a/(n2+n1/4), 1-a*a/(n2+n1/4)
	}
	if math.Abs(three-ternaryError) > 1e-12 || math.Abs(five-quinaryError) > 1e-12 {
		t.Errorf("errors %.17g and %.17g, the constants are %.17g and %.17g", three, five, ternaryError, quinaryError)
	}
	if math.Abs(s-1.2240) > 5e-5 || math.Abs(q/2-0.8430) > 5e-5 { // the steps of Max's table
		t.Errorf("steps %v and %v", s, q/2)
	}
}

// TestChoiceAgainstAllOthers: within the limit, never better than the best choice there is, never below the bound, and worse than the bound by less than one
// step of one cluster.
func TestChoiceAgainstAllOthers(t *testing.T) {
	r := rand.New(rand.NewPCG(19, 20))
	exact, cases := 0, 0
	var worst [2]float64 // excess over the best: of bits under an error budget, of error under a size budget
	for range 3000 {
		options := make([][]option, 1+r.IntN(6))
		least, most := 0.0, 0.0
		for i := range options {
			values, spread := float64(1+r.IntN(1000)), math.Exp(r.NormFloat64())
			if r.IntN(10) == 0 {
				spread = 0
			}
			for q := range precisions {
				o := option{limited: values * q.expected(spread, spread*(1+300*r.Float64())), minimised: values * q.Bits()}
				if cases%2 == 1 {
					o.limited, o.minimised = o.minimised, o.limited
				}
				options[i] = append(options[i], o)
			}
			low, high := math.Inf(1), 0.0
			for _, o := range options[i] {
				low, high = min(low, o.limited), max(high, o.limited)
			}
			least, most = least+low, most+high
		}
		limit := least + (most-least)*math.Pow(r.Float64(), 3)
		chosen, bound := choose(options, limit)

		sum := func(pick func(i int) int) (limited, minimised float64) {
			for i := range options {
				limited += options[i][pick(i)].limited
				minimised += options[i][pick(i)].minimised
			}
			return limited, minimised
		}
		used, value := sum(func(i int) int { return chosen[i] })
		best := math.Inf(1)
		for code := range 1 << (2 * len(options)) {
			if u, v := sum(func(i int) int { return code >> (2 * i) & 3 }); u <= limit*(1+slack) {
				best = min(best, v)
			}
		}
		step := 0.0
		for _, list := range options {
			hull := lowerHull(list)
			for h := 1; h < len(hull); h++ {
				step = max(step, list[hull[h-1]].minimised-list[hull[h]].minimised)
			}
		}
		round := 1e-9 * max(1, math.Abs(best))
		if used > limit*(1+2*slack) || value < best-round || bound > best+round || value > bound+step+round {
			t.Fatalf("limit %v: used %v, value %v, best %v, bound %v, longest step %v\n%v", limit, used, value, best, bound, step, options)
		}
		if value <= best+round {
			exact++
		}
		if best > round {
			worst[cases%2] = max(worst[cases%2], value/best-1)
		}
		cases++
	}
	t.Logf("%d of %d choices are the best there is; the worst has %.0f %% more bits, or %.0f %% more error", exact, cases, 100*worst[0], 100*worst[1])
	if exact*10 < cases*9 {
		t.Errorf("only %d of %d choices are the best there is", exact, cases)
	}
}
