// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"cmp"
	"math"
	"slices"
)

// slack is how far a sum may exceed its limit: rounding, when the limit is a sum of options itself.
const slack = 0x1p-40

// option is a precision with what it costs: of a sum that has a limit, and of one that is to be small.
type option struct {
	limited, minimised float64
	precision          Precision
}

// step goes from one option of a cluster to the next on its convex hull.
type step struct {
	cluster, to int
	rate        float64 // minimised saved for limited spent
}

// choose picks one option of each cluster such that Σ minimised is small while Σ limited stays within limit. It returns their indices, and a
// bound that no choice can be below. The options of least limited must fit together.
//
// Shoham and Gersho, Efficient bit allocation for an arbitrary set of quantizers (1988): from the options of least limited it walks along the clusters'
// lower convex hulls, always by the best rate left in any of them. While all steps fit, every choice on the way is optimal for the limit that it uses
// up. The first that does not fit gives the bound, of steps that may be taken in part; it is missed by less than that one step of one cluster saves.
// Later steps, and then options off the hulls, use up what is left.
func choose(options [][]option, limit float64) (chosen []int, bound float64) {
	chosen = make([]int, len(options))
	var steps []step
	var used, value float64
	for i, list := range options {
		hull := lowerHull(list)
		chosen[i] = hull[0]
		used, value = used+list[hull[0]].limited, value+list[hull[0]].minimised
		for h := 1; h < len(hull); h++ {
			steps = append(steps, step{i, hull[h], rate(list[hull[h-1]], list[hull[h]])})
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(b.rate, a.rate) })
	move := func(i, to int) {
		from, next := options[i][chosen[i]], options[i][to]
		used, value = used+(next.limited-from.limited), value+(next.minimised-from.minimised)
		chosen[i] = to
	}
	fits := func(i, to int) bool { return used+(options[i][to].limited-options[i][chosen[i]].limited) <= limit }
	bound = math.NaN()
	stuck := make([]bool, len(options)) // a cluster's later steps start where this one would have led
	for _, s := range steps {
		switch {
		case stuck[s.cluster]:
		case fits(s.cluster, s.to):
			move(s.cluster, s.to)
		default:
			stuck[s.cluster] = true
			if math.IsNaN(bound) {
				bound = value - float64(s.rate*max(0, limit-used))
			}
		}
	}
	if math.IsNaN(bound) {
		bound = value
	}
	for {
		best, to, most := -1, 0, 0.0
		for i, list := range options {
			for j, o := range list {
				if saved := list[chosen[i]].minimised - o.minimised; saved > most && fits(i, j) {
					best, to, most = i, j, saved
				}
			}
		}
		if best < 0 {
			return chosen, bound
		}
		move(best, to)
	}
}

// rate is what the step from a to b saves for what it spends.
func rate(a, b option) float64 { return (a.minimised - b.minimised) / (b.limited - a.limited) }

// lowerHull returns the options on the lower convex hull, by rising limited and falling minimised.
func lowerHull(list []option) []int {
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(list[a].limited, list[b].limited), cmp.Compare(list[a].minimised, list[b].minimised))
	})
	hull := order[:0:0]
	for _, o := range order {
		if len(hull) > 0 && list[o].minimised >= list[hull[len(hull)-1]].minimised {
			continue
		}
		for len(hull) > 1 && rate(list[hull[len(hull)-2]], list[hull[len(hull)-1]]) <= rate(list[hull[len(hull)-1]], list[o]) {
			hull = hull[:len(hull)-1]
		}
		hull = append(hull, o)
	}
	return hull
}
