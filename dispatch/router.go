// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/setun-compute/setun/backends"
)

// maxArms is how many arms an op may have: what fits a bit mask.
const maxArms = 64

// ErrPolicy is returned for a policy that cannot be followed.
var ErrPolicy = errors.New("policy cannot be followed")

// Policy says what the router may choose from.
type Policy struct {
	// Force names the only backend ("simd_c") or arm ("simd_c/avx2") to use. An op that it does not have cannot be decided.
	Force string
	// From gives, for an op, the size from which a backend may run; see Shape.Work for what a size is. A backend that is not
	// named may always run.
	From map[backends.Op]map[string]float64
}

// Reason says why an arm was chosen.
type Reason uint8

// The reasons.
const (
	None     Reason = iota // no arm can run the call
	Fastest                // lowest predicted time
	Only                   // no other arm was eligible
	Forced                 // the policy names it
	Fallback               // lowest predicted time of those that have not failed
)

// String returns the reason in words.
func (r Reason) String() string {
	return [...]string{"no kernel can run the call", "lowest predicted time", "the only kernel eligible", "forced by the policy", "lowest predicted time of the kernels that have not failed"}[r]
}

// Decision is the router's answer.
type Decision struct {
	Arm    int     // index into Arms(op); −1: none
	Nanos  float64 // predicted
	Reason Reason
}

// entry is an arm as Decide sees it.
type entry struct {
	coef    Coef
	from    float64
	factors *[numVariant][numClasses]float32 // exp of the interpolated corrections; nil: all 1
}

// Router decides. It never changes, so any number of goroutines may share it; learning makes a new one.
type Router struct {
	arms    [8][]Arm
	models  [8][]Model
	entries [8][]entry
	allowed [8]uint64
	policy  Policy
}

// NewRouter makes a router for the arms of each op. Models come from the profile where it has them, else from the prior; the profile may be
// nil. Ties go to the arm that is listed first.
func NewRouter(arms map[backends.Op][]Arm, profile *Profile, policy Policy) (*Router, error) {
	r := &Router{policy: policy}
	matched := policy.Force == ""
	for op, list := range arms {
		if int(op) >= len(r.arms) || len(list) > maxArms {
			return nil, fmt.Errorf("%w: %v has %d arms, at most %d are possible", ErrPolicy, op, len(list), maxArms)
		}
		r.arms[op] = list
		for i, a := range list {
			m, ok := profile.Model(op, a)
			if !ok {
				m = Model{Coef: Prior(op, a)}
			}
			e := entry{coef: m.Coef, from: policy.From[op][a.Backend]}
			if len(m.Cells) > 0 {
				e.factors = tabulate(&m)
			}
			r.models[op], r.entries[op] = append(r.models[op], m), append(r.entries[op], e)
			if policy.Force == "" || policy.Force == a.Backend || policy.Force == a.String() {
				r.allowed[op] |= 1 << i
				matched = true
			}
		}
	}
	if !matched {
		return nil, fmt.Errorf("%w: no kernel is called %q; there are %s", ErrPolicy, policy.Force, names(arms))
	}
	for op, from := range policy.From {
		for name, size := range from {
			if !(size >= 0) {
				return nil, fmt.Errorf("%w: %v on %s from size %v", ErrPolicy, op, name, size)
			}
		}
	}
	return r, nil
}

func names(arms map[backends.Op][]Arm) string {
	var all []string
	seen := map[string]bool{}
	for _, op := range backends.Ops() {
		for _, a := range arms[op] {
			if !seen[a.String()] {
				seen[a.String()] = true
				all = append(all, a.String())
			}
		}
	}
	return strings.Join(all, ", ")
}

// tabulate evaluates a model's corrections at every class, so that a decision looks nothing up by search.
func tabulate(m *Model) *[numVariant][numClasses]float32 {
	t := new([numVariant][numClasses]float32)
	for v := range t {
		cells := m.measured(Variant(v))
		for c := range t[v] {
			log, _, _ := at(cells, c, 0)
			t[v][c] = float32(math.Exp(log))
		}
	}
	return t
}

// Arms lists the arms of an op in the order that decisions count them.
func (r *Router) Arms(op backends.Op) []Arm { return r.arms[op] }

// Decide chooses the arm for a call. excluded is a bit mask of arms that may not run, because they failed on this call or are unhealthy.
// It allocates nothing and takes some tens of nanoseconds.
func (r *Router) Decide(s *Shape, excluded uint64) Decision {
	op := s.Op & 7
	open := r.allowed[op] &^ excluded
	if open == 0 {
		return Decision{Arm: -1}
	}
	f := s.features()
	work := s.Work()
	class, fraction := position(work)
	w := float32(fraction)
	variant := s.Variant % numVariant
	best := Decision{Arm: -1, Nanos: math.Inf(1)}
	eligible := 0
	for i := range r.entries[op] {
		e := &r.entries[op][i]
		if open&(1<<i) == 0 || work < e.from {
			continue
		}
		eligible++
		t := e.coef.roofline(&f)
		if e.factors != nil {
			row := &e.factors[variant]
			a := row[class]
			t *= float64(a + w*(row[class+1]-a))
		}
		if t < best.Nanos {
			best.Arm, best.Nanos = i, t
		}
	}
	best.Nanos = max(best.Nanos, minNanos)
	switch {
	case best.Arm < 0:
		return Decision{Arm: -1}
	case r.policy.Force != "":
		best.Reason = Forced
	case eligible == 1:
		best.Reason = Only
	case excluded != 0:
		best.Reason = Fallback
	default:
		best.Reason = Fastest
	}
	return best
}
