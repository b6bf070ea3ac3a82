// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"math"
	"slices"
)

// maxStates bounds the partial choices that are kept at a time, and so time and memory.
const maxStates = 1 << 14

// state is a partial choice: some classes were decided anew, the others have what the relaxation gave them.
type state struct {
	limited, minimised int64 // sums over all classes
	bound              float64
	last               *decision
}

// decision is one class decided; the earlier ones are behind it.
type decision struct {
	class, option int
	before        *decision
}

// improve finds the best choice. Classes are decided one after the other, those first whose next step is nearest to the price lambda: dynamic programming over all sums that are not beaten by another one and whose bound is not
// above the best choice so far. It is complete when none are left, which is mostly after a few classes.
func (s *search) improve() {
	s.greedy()
	if s.lambda == 0 {
		s.complete = true // every tensor has its best
		return
	}
	order := make([]int, len(s.classes))
	for i := range order {
		order[i] = i
	}
	near := func(i int) float64 { c := &s.classes[i]; return min(s.lambda-c.up, c.down-s.lambda) }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(near(a), near(b)) })
	// The best slopes of those that are not decided yet: what a state can gain with what is left, and what it must lose to come within the limit.
	up, down := make([]float64, len(order)+1), make([]float64, len(order)+1)
	down[len(order)] = math.Inf(1)
	for k := len(order) - 1; k >= 0; k-- {
		c := &s.classes[order[k]]
		up[k], down[k] = max(up[k+1], c.up), min(down[k+1], c.down)
	}
	states := []state{{limited: s.used, minimised: s.value}}
	s.complete = true
	for k, i := range order {
		states = s.decide(states, i, up[k+1], down[k+1])
		if len(states) == 0 {
			return
		}
		if len(states) > maxStates {
			s.complete = false
			slices.SortStableFunc(states, func(a, b state) int { return cmp.Compare(a.bound, b.bound) })
			states = states[:maxStates]
		}
	}
}

// decide gives class i each of its options in each state, and returns what is worth going on with. up and down are the best slopes of the classes after it.
func (s *search) decide(states []state, i int, up, down float64) []state {
	c := &s.classes[i]
	now := c.now()
	var next []state
	for j, o := range c.options {
		for _, old := range states {
			n := state{limited: old.limited + o.limited - now.limited, minimised: old.minimised + o.minimised - now.minimised, last: old.last}
			switch spare := s.limit - n.limited; {
			case spare >= 0:
				n.bound = float64(n.minimised) - float64(up*float64(spare))
			case math.IsInf(down, 1):
				continue // the others cannot make up for it
			default:
				n.bound = float64(n.minimised) + float64(down*float64(-spare))
			}
			better := n.limited <= s.limit && n.minimised < s.best
			if n.bound > float64(s.best)-0.5 && !better { // sums are integers
				continue
			}
			if o != now {
				n.last = &decision{i, j, old.last}
			}
			if better {
				s.take(n)
			}
			next = append(next, n)
		}
	}
	slices.SortStableFunc(next, func(a, b state) int {
		return cmp.Or(cmp.Compare(a.limited, b.limited), cmp.Compare(a.minimised, b.minimised))
	})
	kept := next[:0]
	for _, n := range next {
		if m := len(kept); (m == 0 || n.minimised < kept[m-1].minimised) && n.bound <= float64(s.best)-0.5 {
			kept = append(kept, n)
		}
	}
	return kept
}

// take makes a state the best choice.
func (s *search) take(n state) {
	s.best = n.minimised
	for i := range s.classes {
		s.chosen[i] = s.classes[i].now().index
	}
	for d := n.last; d != nil; d = d.before {
		s.chosen[d.class] = s.classes[d.class].options[d.option].index
	}
}

// greedy starts with what the relaxation chose, and uses up what is left by the largest changes that fit.
func (s *search) greedy() {
	s.chosen, s.best = make([]int, len(s.classes)), s.value
	at, used := make([]int, len(s.classes)), s.used
	for i := range s.classes {
		at[i] = s.classes[i].hull[s.classes[i].at]
	}
	for {
		which, to, most := -1, 0, int64(0)
		for i := range s.classes {
			options := s.classes[i].options
			for j := at[i] + 1; j < len(options); j++ {
				if options[j].limited-options[at[i]].limited > s.limit-used {
					break
				}
				if saved := options[at[i]].minimised - options[j].minimised; saved > most {
					which, to, most = i, j, saved
				}
			}
		}
		if which < 0 {
			break
		}
		options := s.classes[which].options
		used += options[to].limited - options[at[which]].limited
		s.best -= most
		at[which] = to
	}
	for i := range s.classes {
		s.chosen[i] = s.classes[i].options[at[i]].index
	}
}
