// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"math"
	"slices"
)

// option is a candidate by what it costs: of a sum that has a limit, and of one that is to be small.
type option struct {
	limited, minimised int64
	index              int // in the tensor's candidates
}

// slope is what the step from a to b saves for what it spends.
func slope(a, b option) float64 {
	return float64(a.minimised-b.minimised) / float64(b.limited-a.limited)
}

// class is the options of one tensor that no other one beats, by rising limited and falling minimised.
type class struct {
	options []option
	hull    []int     // those on the lower convex hull
	slopes  []float64 // of the step to each of the hull from the one before; the first is +Inf
	at      int       // in hull: what the relaxation chose
	up      float64   // slope of the next step; 0 at the end
	down    float64   // slope of the step back; +Inf at the begin
}

func newClass(list []option) class {
	slices.SortStableFunc(list, func(a, b option) int {
		return cmp.Or(cmp.Compare(a.limited, b.limited), cmp.Compare(a.minimised, b.minimised))
	})
	var c class
	for _, o := range list {
		if n := len(c.options); n == 0 || o.minimised < c.options[n-1].minimised {
			c.options = append(c.options, o)
		}
	}
	for i, o := range c.options {
		s := math.Inf(1)
		for n := len(c.hull); n > 0; n = len(c.hull) {
			if s = slope(c.options[c.hull[n-1]], o); n == 1 || s < c.slopes[n-1] {
				break
			}
			c.hull, c.slopes = c.hull[:n-1], c.slopes[:n-1]
		}
		if len(c.hull) == 0 {
			s = math.Inf(1)
		}
		c.hull, c.slopes = append(c.hull, i), append(c.slopes, s)
	}
	return c
}

// now returns the option that the relaxation chose.
func (c *class) now() option { return c.options[c.hull[c.at]] }

// search is one problem on its way to a solution.
type search struct {
	classes []class
	limit   int64
	least   int64 // the smallest sum of limited

	// After relax.
	used, value int64   // sums of what the relaxation chose, all of it within the limit
	bound       float64 // no choice is below
	lambda      float64 // the slope of the step that did not fit; 0 when all did

	// The best choice so far: candidates' indices, and its sum of minimised.
	chosen   []int
	best     int64
	complete bool // nothing better exists
}

func newSearch(lists [][]option, limit int64) *search {
	s := &search{limit: limit}
	for _, list := range lists {
		c := newClass(list)
		s.classes = append(s.classes, c)
		s.least += c.options[0].limited
	}
	return s
}

// relax solves the linear relaxation: from the options of least limited along all hulls, by falling slope, until a step does not fit. That step, taken in part, gives the bound.
func (s *search) relax() {
	type step struct {
		class, to int
		slope     float64
	}
	var steps []step
	for i := range s.classes {
		c := &s.classes[i]
		s.used, s.value = s.used+c.now().limited, s.value+c.now().minimised
		for h := 1; h < len(c.hull); h++ {
			steps = append(steps, step{i, h, c.slopes[h]})
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(b.slope, a.slope) })
	for _, st := range steps {
		c := &s.classes[st.class]
		from, to := c.now(), c.options[c.hull[st.to]]
		if to.limited-from.limited > s.limit-s.used {
			s.lambda = st.slope
			break
		}
		s.used, s.value = s.used+to.limited-from.limited, s.value+to.minimised-from.minimised
		c.at = st.to
	}
	s.bound = float64(s.value) - float64(s.lambda*float64(s.limit-s.used))
	for i := range s.classes {
		c := &s.classes[i]
		c.down = c.slopes[c.at]
		if c.at+1 < len(c.hull) {
			c.up = c.slopes[c.at+1]
		}
	}
}
