// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/setun-compute/setun/backends"
)

// MaxArms is how many arms an op may have: what fits a bit mask.
const MaxArms = 64

const numOps = 16 // room for op numbers

// Router decides. It never changes, so any number of goroutines may share it; learning makes a new one.
type Router struct {
	arms    [numOps][]Arm
	models  [numOps][]Model
	entries [numOps][]entry
	allowed [numOps]uint64     // what the policy admits
	fast    [numOps]uint64     // whose results are not canonical
	fixed   [numOps][]fixedRow // nil: predictions decide
	common  [numOps][]common   // by variant; nil: nothing
	devices [numOps]bool       // some arm works in a device's memory
	links   [NumMemories]Link  // between the host's memory and each device's; none for the host itself
	policy  Policy
}

// NewRouter makes a router for the arms of each op on a machine of which nothing is known but its profile. See [Hardware.NewRouter].
func NewRouter(arms map[backends.Op][]Arm, profile *Profile, policy Policy) (*Router, error) {
	return Hardware{}.NewRouter(arms, profile, policy)
}

// NewRouter makes a router for the arms of each op. Models come from the profile where it has them, else from the prior; the profile may be
// nil. Ties go to the arm that is listed first, so list pure Go first. Errors wrap ErrPolicy, or ErrProfileDamaged for a profile
// made by hand with numbers out of range.
func (h Hardware) NewRouter(arms map[backends.Op][]Arm, profile *Profile, policy Policy) (*Router, error) {
	if profile != nil {
		if err := profile.check(); err != nil {
			return nil, err
		}
	}
	if err := policy.check(); err != nil {
		return nil, err
	}
	for op := range arms {
		if !slices.Contains(backends.Ops(), op) {
			return nil, fmt.Errorf("%w: arms for op number %d, which is not known", ErrPolicy, op)
		}
	}
	r := &Router{policy: policy, links: profile.links()}
	matched := policy.Force == ""
	for _, op := range backends.Ops() {
		list := slices.Clone(arms[op])
		if len(list) > MaxArms {
			return nil, fmt.Errorf("%w: %v has %d arms, at most %d are possible", ErrPolicy, op, len(list), MaxArms)
		}
		r.arms[op] = list
		if policy.Force == "" {
			rows, err := policy.Fixed.rows(op, list)
			if err != nil {
				return nil, err
			}
			r.fixed[op] = rows
		}
		for i, a := range list {
			m, ok := profile.Model(op, a)
			if !ok {
				m = h.Prior(op, a)
			}
			m.Cells = slices.Clone(m.Cells) // the profile stays the caller's
			r.models[op] = append(r.models[op], m)
			r.entries[op] = append(r.entries[op], newEntry(&m, policy.from(op, a), h.beside(a)))
			if a.Memory >= NumMemories {
				return nil, fmt.Errorf("%w: %v works in memory %d, there are %d", ErrPolicy, a, a.Memory, NumMemories)
			}
			if a.Fast {
				r.fast[op] |= 1 << i
			}
			r.devices[op] = r.devices[op] || a.Memory != Host
			if policy.admits(a) {
				r.allowed[op] |= 1 << i
				matched = true
			}
		}
	}
	if !matched {
		return nil, fmt.Errorf("%w: no kernel is called %q; there are %s", ErrPolicy, policy.Force, names(arms))
	}
	return r, nil
}

// common is by how much all arms of an op differ from their models together. It changes no choice, and is kept apart so that not all models have to change with it.
type common struct {
	cells []Cell
	row   *row
}

// together is what the arms of an op have in common at a cell's place.
func (r *Router) together(op backends.Op, k key) float64 {
	if r.common[op] == nil {
		return 0
	}
	return at(r.common[op][k.variant].cells, float64(k.class)).log
}

// shared is the factor that the arms of an op have in common at a place.
func (r *Router) shared(op backends.Op, v Variant, step uint, weight float64) float64 {
	if c := r.common[op]; c != nil && c[v].row != nil {
		return c[v].row.at(step, weight)
	}
	return 1
}

// expects is what is predicted for an arm whose operands are in its memory, with the relative spread of a call.
func (r *Router) expects(s *Shape, arm int, f *[numFeatures]float64) (nanos, spread float64) {
	step, weight := place(s.Work())
	v, e := s.Variant%numVariant, &r.entries[s.Op][arm]
	nanos = e.predict(f, v, step, weight)
	if s.Variant&Beside != 0 {
		nanos = clamp(nanos * e.beside)
	}
	nanos = clamp(nanos * r.shared(s.Op, v, step, weight))
	return nanos, lookup(&r.models[s.Op][arm], keyOf(s)).spread
}

func names(arms map[backends.Op][]Arm) string {
	var all []string
	for _, op := range backends.Ops() {
		for _, a := range arms[op] {
			if !slices.Contains(all, a.String()) {
				all = append(all, a.String())
			}
		}
	}
	if all == nil {
		return "none"
	}
	return strings.Join(all, ", ")
}

// Arms lists the arms of an op in the order that decisions count them. The caller must not change the list.
func (r *Router) Arms(op backends.Op) []Arm {
	if op >= numOps {
		return nil
	}
	return r.arms[op]
}

// Decide chooses the arm for a call whose operands are slices of the program. excluded is a bit mask of arms that may not run, because they failed on this call or are unhealthy.
// It allocates nothing, takes no lock and some tens of nanoseconds.
func (r *Router) Decide(s *Shape, excluded uint64) Decision {
	op := s.Op
	if op >= numOps {
		return Decision{Arm: -1}
	}
	able := r.allowed[op]
	if !s.Fast {
		able &^= r.fast[op]
	}
	open := able &^ excluded
	if open == 0 {
		return Decision{Arm: -1}
	}
	work := s.Work()
	named := false
	if r.fixed[op] != nil {
		open, named = r.narrow(op, open, work)
	}
	f := s.features()
	step, weight := place(work)
	variant, beside := s.Variant%numVariant, s.Variant&Beside != 0
	best, nanos := -1, math.Inf(1)
	eligible, small := 0, false
	for i := range r.entries[op] {
		e := &r.entries[op][i]
		if open&(1<<i) == 0 {
			continue
		}
		if work < e.from {
			small = true
			continue
		}
		eligible++
		t := e.coef.roofline(&f) // this is e.predict
		if row := e.rows[variant]; row != nil {
			t *= row.at(step, weight)
		}
		if beside {
			t *= e.beside
		}
		if t = clamp(t); t < nanos {
			best, nanos = i, t
		}
	}
	if best < 0 {
		return Decision{Arm: -1}
	}
	moving := 0.0
	if r.devices[op] { // rare, and apart, so that other decisions stay short
		best, nanos, moving = r.nearest(s, nil, open)
	} else {
		nanos = clamp(nanos * r.shared(op, variant, step, weight)) // it changes no choice
	}
	switch {
	case r.policy.Force != "":
		return Decision{best, nanos, moving, Forced}
	case named:
		return Decision{best, nanos, moving, Listed}
	case eligible == 1:
		return Decision{best, nanos, moving, Only}
	case able&excluded != 0:
		return Decision{best, nanos, moving, Fallback}
	case small:
		return Decision{best, nanos, moving, Admitted}
	}
	return Decision{best, nanos, moving, Fastest}
}
