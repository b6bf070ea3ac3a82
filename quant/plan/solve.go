// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

const (
	scale    = 1 << 50 // what the sum of all tensors' largest errors becomes as an integer
	maxBytes = 1 << 53 // of all tensors' largest candidates
)

// Solve chooses one candidate of each tensor: the least Σ weight·error within Budget.Bytes, or the fewest bytes within Budget.RelativeError.
//
// Sums are integers, so that their order changes nothing: errors are rounded to 2^-50 of the sum of all tensors' largest errors, and a budget of error is kept up to that much a tensor. The choice is optimal when Plan.Optimal
// says so, which it does but for large and adverse cases, and else above Bound by at most Gap. Errors: ErrArgument for a budget that is not one, tensors without candidates and numbers that are negative or not finite;
// *InfeasibleError. Deterministic.
func Solve(tensors []Tensor, b Budget) (*Plan, error) {
	if err := check(tensors, b); err != nil {
		return nil, err
	}
	energy, largest := 0.0, 0.0
	for i := range tensors {
		t := &tensors[i]
		energy += float64(t.weight() * t.Energy)
		most := 0.0
		for _, c := range t.Candidates {
			most = max(most, t.weight()*c.Error)
		}
		largest += most
	}
	if math.IsInf(energy, 0) || math.IsInf(largest, 0) {
		return nil, fmt.Errorf("%w: the errors or energies of all tensors together are infinite", ErrArgument)
	}
	unit := func(e float64) int64 {
		if largest == 0 {
			return 0
		}
		return int64(math.Round(e / largest * scale))
	}
	p := &Plan{Budget: b}
	classes := make([][]option, len(tensors))
	for i := range tensors {
		t := &tensors[i]
		for j, c := range t.Candidates {
			o := option{limited: c.Bytes, minimised: unit(t.weight() * c.Error), index: j}
			if b.Bytes == 0 {
				o.limited, o.minimised = o.minimised, o.limited
			}
			classes[i] = append(classes[i], o)
		}
	}
	limit := b.Bytes
	if limit == 0 {
		limit = scale + int64(len(tensors))
		if e := b.RelativeError * energy; largest > 0 && e < largest {
			limit = int64(math.Floor(e/largest*scale)) + int64(len(tensors))
		}
	}
	s := newSearch(classes, limit)
	if s.least > limit {
		least := Budget{Bytes: s.least}
		if b.Bytes == 0 {
			least = Budget{RelativeError: leastError(tensors) / energy}
		}
		return nil, &InfeasibleError{Budget: b, Least: least}
	}
	s.relax()
	s.improve()
	p.Bound, p.Optimal = s.bound, s.complete
	if p.Lambda = s.lambda; b.Bytes == 0 && s.lambda > 0 {
		p.Lambda = 1 / s.lambda
	}
	toError := largest / scale // of an integer
	p.Lambda *= toError
	value := float64(s.best)
	if p.Bound > 0 {
		p.Gap = max(0, value/p.Bound-1)
	}
	if b.Bytes > 0 {
		p.Bound *= toError
	}
	p.explain(tensors, s.chosen)
	if energy > 0 {
		p.Relative = p.Error / energy
	}
	return p, nil
}

func check(tensors []Tensor, b Budget) error {
	if b.Bytes < 0 || !(b.RelativeError >= 0) || math.IsInf(b.RelativeError, 0) || (b.Bytes > 0) == (b.RelativeError > 0) {
		return fmt.Errorf("%w: a budget of %d bytes and a relative error of %v; exactly one is needed, above 0 and finite", ErrArgument, b.Bytes, b.RelativeError)
	}
	if len(tensors) == 0 {
		return fmt.Errorf("%w: no tensors", ErrArgument)
	}
	bad := func(v float64) bool { return !(v >= 0) || math.IsInf(v, 0) }
	total := int64(0)
	for i := range tensors {
		t := &tensors[i]
		if len(t.Candidates) == 0 || t.Values < 0 || bad(t.Energy) || bad(t.Weight) {
			return fmt.Errorf("%w: tensor %q has %d candidates, %d values, energy %v and weight %v", ErrArgument, t.Name, len(t.Candidates), t.Values, t.Energy, t.Weight)
		}
		most := int64(0)
		for _, c := range t.Candidates {
			if c.Bytes < 0 || bad(c.Error) || bad(t.weight()*c.Error) {
				return fmt.Errorf("%w: tensor %q has a candidate (%v) of %d bytes and error %v", ErrArgument, t.Name, c, c.Bytes, c.Error)
			}
			most = max(most, c.Bytes)
		}
		if most > maxBytes-total {
			return fmt.Errorf("%w: the candidates take more than 2^53 bytes, tensor %q among them", ErrArgument, t.Name)
		}
		total += most
	}
	return nil
}

// leastError is the sum of each tensor's smallest weighted error.
func leastError(tensors []Tensor) float64 {
	sum := 0.0
	for i := range tensors {
		t := &tensors[i]
		least := math.Inf(1)
		for _, c := range t.Candidates {
			least = min(least, t.weight()*c.Error)
		}
		sum += least
	}
	return sum
}

// explain fills in choices and totals.
func (p *Plan) explain(tensors []Tensor, chosen []int) {
	for i := range tensors {
		t, w := &tensors[i], tensors[i].weight()
		c := Choice{Tensor: t.Name, Index: chosen[i], Candidate: t.Candidates[chosen[i]]}
		if t.Values > 0 {
			c.Bits = 8 * float64(c.Candidate.Bytes) / float64(t.Values)
		}
		if t.Energy > 0 {
			c.Relative = c.Candidate.Error / t.Energy
		}
		p.Bytes += c.Candidate.Bytes
		p.Error += float64(w * c.Candidate.Error)
		order := useful(t.Candidates)
		step := func(j int) *Step {
			to := t.Candidates[j]
			return &Step{To: to, Bytes: to.Bytes - c.Candidate.Bytes, Error: w * (to.Error - c.Candidate.Error)}
		}
		for _, j := range order {
			switch to := t.Candidates[j]; {
			case to.Bytes < c.Candidate.Bytes:
				c.Cheaper = step(j)
				if saved := w * (to.Error - c.Candidate.Error) / float64(c.Candidate.Bytes-to.Bytes); c.Lambda == 0 || saved < c.Lambda {
					c.Lambda = saved // the flattest line from a cheaper one is the hull's
				}
			case to.Bytes > c.Candidate.Bytes && c.Dearer == nil:
				c.Dearer = step(j)
			}
		}
		p.Choices = append(p.Choices, c)
	}
}

// useful returns the candidates that no other one beats in bytes and error, by rising bytes and falling error.
func useful(list []Candidate) []int {
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(list[a].Bytes, list[b].Bytes), cmp.Compare(list[a].Error, list[b].Error))
	})
	kept := order[:0]
	for _, j := range order {
		if len(kept) == 0 || list[j].Error < list[kept[len(kept)-1]].Error {
			kept = append(kept, j)
		}
	}
	return kept
}
