// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"fmt"
	"strings"
)

// String formats the suggestion for a terminal: the reason, and a row a candidate in which * marks what each criterion chose. Rows beyond the last
// choice are left out but for two.
func (s *Suggestion) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "suggest k %dx%d → k = %d\n  %s\n", s.Points, s.Dim, s.K, s.Reason)
	if len(s.Candidates) == 1 {
		return b.String()
	}
	fmt.Fprintf(&b, "%4s  %10s %12s  %17s  %10s  %7s  %11s\n", "k", "inertia", byBIC, byVariance, bySilhouette, byKnee, bySeparation)
	rows := s.K
	chosen := map[string]int{}
	for _, v := range s.Votes {
		chosen[v.Criterion] = v.K
		rows = max(rows, v.K)
	}
	rows = min(rows+2, len(s.Candidates))
	for _, c := range s.Candidates[:rows] {
		arrow := " "
		if c.K == s.K {
			arrow = "→"
		}
		mark := func(criterion string) string {
			if chosen[criterion] == c.K {
				return "*"
			}
			return " "
		}
		apart := ""
		if c.Apart {
			apart = "apart"
		}
		row := fmt.Sprintf("%s%3d  %10.4g %11.6g%s  %16.5g%s  %9.4f%s  %6.3f%s  %10.2f%s %s", arrow, c.K, c.Inertia, c.BIC, mark(byBIC), c.CalinskiHarabasz, mark(byVariance),
			c.Silhouette, mark(bySilhouette), c.Knee, mark(byKnee), c.Separation, mark(bySeparation), apart)
		b.WriteString(strings.TrimRight(row, " ") + "\n")
	}
	if left := len(s.Candidates) - rows; left > 0 {
		fmt.Fprintf(&b, "  … %d more up to k = %d\n", left, len(s.Candidates))
	}
	return b.String()
}

// String formats the plan for a terminal, a row a cluster.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "suggest precision %dx%d, %d clusters → %.3f bits a value, expected error %.3g %% of the variance\n", p.Points, p.Dim, len(p.Clusters), p.Bits, 100*p.Error)
	if p.MaxError > 0 {
		fmt.Fprintf(&b, "  the fewest bits for an error of at most %.3g %%; no choice has less than %.3f\n", 100*p.MaxError, p.Bound)
	} else {
		fmt.Fprintf(&b, "  the least error for at most %.3f bits; no choice has less than %.3g %%\n", p.MaxBits, 100*p.Bound)
	}
	fmt.Fprintf(&b, "%7s  %8s  %10s  %10s  %-9s  %6s  %s\n", "cluster", "points", "spread", "largest", "precision", "bits", "expected error of a value")
	for _, c := range p.Clusters {
		fmt.Fprintf(&b, "%7d  %8d  %10.4g  %10.4g  %-9v  %6.3f  %.3g\n", c.Cluster, c.Points, c.Spread, c.Largest, c.Precision, c.Bits, c.Error)
	}
	return b.String()
}
