// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// String prints the plan as a table: what each tensor got, at which multiplier, and what the next candidates would change.
func (p *Plan) String() string {
	var b strings.Builder
	if p.Budget.Bytes > 0 {
		fmt.Fprintf(&b, "least error within %d bytes", p.Budget.Bytes)
	} else {
		fmt.Fprintf(&b, "fewest bytes within a relative error of %.4g", p.Budget.RelativeError)
	}
	best := fmt.Sprintf("at most %.3g %% above the best", 100*p.Gap)
	if p.Optimal {
		best = "no choice is better"
	}
	fmt.Fprintf(&b, " → %d bytes, relative error %.4g; %s, bound %.6g, λ %.3g\n", p.Bytes, p.Relative, best, p.Bound, p.Lambda)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "tensor\tchoice\tbits\tbytes\trelative error\tλ\tcheaper\tdearer")
	for _, c := range p.Choices {
		fmt.Fprintf(w, "%s\t%v\t%.3f\t%d\t%.4f\t%.3g\t%s\t%s\n", c.Tensor, c.Candidate, c.Bits, c.Candidate.Bytes, c.Relative, c.Lambda, c.Cheaper, c.Dearer)
	}
	w.Flush()
	return b.String()
}

// String prints what the step changes: "ternary least-squares row rans: -120 bytes, error +0.3"; "–" for none.
func (s *Step) String() string {
	if s == nil {
		return "–"
	}
	return fmt.Sprintf("%v: %+d bytes, error %+.3g", s.To, s.Bytes, s.Error)
}
