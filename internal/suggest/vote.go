// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"fmt"
	"strings"
)

// The criteria, by the names that votes carry.
const (
	byBIC        = "BIC"
	byVariance   = "Calinski-Harabasz"
	bySilhouette = "silhouette"
	byKnee       = "knee"
	bySeparation = "separation"
)

// vote decides. Each criterion names one k: BIC, Caliński-Harabasz and silhouette that of their greatest value, the knee its own, separation the last k whose
// split is apart. The k with most votes wins; among equals the one with the greatest silhouette, then the lower.
//
// But k = 1 unless some split up to the winner is apart. With fewer points than can be held out BIC says whether k = 1.
func (s *Suggestion) vote(knee int) {
	last := 0
	for i, c := range s.Candidates {
		if c.Apart {
			last = i
		}
	}
	s.Votes = []Vote{
		{byBIC, 1 + s.best(func(c *Candidate) float64 { return c.BIC })},
		{byVariance, 1 + s.best(func(c *Candidate) float64 { return c.CalinskiHarabasz })},
		{bySilhouette, 1 + s.best(func(c *Candidate) float64 { return c.Silhouette })},
		{byKnee, 1 + knee},
		{bySeparation, 1 + last},
	}
	votes := make([]int, len(s.Candidates))
	for _, v := range s.Votes {
		if v.K > 0 {
			votes[v.K-1]++
		}
	}
	win, tied := 0, false
	for i := 1; i < len(votes); i++ {
		switch {
		case votes[i] == votes[win]:
			tied = true
			if s.Candidates[i].Silhouette > s.Candidates[win].Silhouette {
				win = i
			}
		case votes[i] > votes[win]:
			win, tied = i, false
		}
	}
	some := s.Points < fewRows && s.Votes[0].K > 1
	for _, c := range s.Candidates[:win+1] {
		some = some || c.Apart
	}
	s.K = 1
	switch {
	case s.Candidates[0].Inertia == 0:
		s.Reason = fmt.Sprintf("all %d points are equal", s.Points)
	case len(s.Candidates) == 1:
		s.Reason = fmt.Sprintf("k = 1 is all that %d points and the limit on k admit", s.Points)
	case some:
		s.K = win + 1
		s.Reason = s.why(win+1, tied)
	case s.Points < fewRows:
		s.Reason = fmt.Sprintf("no structure: BIC is greatest for one cluster, and %d points are too few to hold some out", s.Points)
	case win == 0:
		s.Reason = "no structure: " + s.why(1, tied)
	default:
		s.Reason = fmt.Sprintf("no structure: no split up to k = %d leaves halves further apart than one symmetric peak can be", win+1)
		if last > win {
			s.Reason += fmt.Sprintf(", though the one to k = %d does", last+1)
		}
	}
}

// why says who chose k.
func (s *Suggestion) why(k int, tied bool) string {
	var who []string
	for _, v := range s.Votes {
		if v.K == k {
			who = append(who, v.Criterion)
		}
	}
	names := strings.Join(who[:len(who)-1], ", ")
	if names != "" {
		names += " and "
	}
	names += who[len(who)-1]
	reason := fmt.Sprintf("%d of %d criteria choose k = %d: %s", len(who), len(s.Votes), k, names)
	if tied {
		reason += fmt.Sprintf("; others have as many votes, but the silhouette of %d is the greatest among them", k)
	}
	return reason
}

// best returns the index of the candidate with the greatest value, the lower of equals.
func (s *Suggestion) best(of func(*Candidate) float64) int {
	b := 0
	for i := range s.Candidates {
		if of(&s.Candidates[i]) > of(&s.Candidates[b]) {
			b = i
		}
	}
	return b
}
