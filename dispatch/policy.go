// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"errors"
	"fmt"

	"github.com/setun-compute/setun/backends"
)

// ErrPolicy is wrapped by the error for a policy that cannot be followed.
var ErrPolicy = errors.New("policy cannot be followed")

// Policy says what the router may choose from. The zero value lets every arm run at every size.
type Policy struct {
	// Force names the only backend ("simd_c") or arm ("simd_c/avx2") to use, whatever From says. An op that it does not have cannot be decided.
	Force string
	// From gives, for an op, the size from which a backend may run; see Shape.Work for what a size is. A backend that is not
	// named may always run.
	From map[backends.Op]map[string]float64
	// Fixed is a table that decides instead of predictions, where an arm that it names can run the call. nil for none.
	Fixed *Fixed
}

// admits says whether the policy lets an arm run at all.
func (p *Policy) admits(a Arm) bool {
	return p.Force == "" || p.Force == a.Backend || p.Force == a.String()
}

// from returns the size from which an arm may run.
func (p *Policy) from(op backends.Op, a Arm) float64 {
	if p.Force != "" {
		return 0 // who forces a kernel means it
	}
	return p.From[op][a.Backend]
}

func (p *Policy) check() error {
	if err := p.Fixed.check(); err != nil {
		return err
	}
	for _, op := range backends.Ops() {
		for name, size := range p.From[op] {
			if !(size >= 0) {
				return fmt.Errorf("%w: %v on %s from size %v", ErrPolicy, op, name, size)
			}
		}
	}
	return nil
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
	Admitted               // lowest predicted time of those that the policy's sizes admit
	Listed                 // a fixed table names it for this size
)

// String returns the reason in words.
func (r Reason) String() string {
	switch r {
	case None:
		return "no kernel can run the call"
	case Fastest:
		return "lowest predicted time"
	case Only:
		return "the only kernel eligible"
	case Forced:
		return "forced by the policy"
	case Fallback:
		return "lowest predicted time of the kernels that have not failed"
	case Admitted:
		return "lowest predicted time of the kernels that the policy admits at this size"
	case Listed:
		return "listed for this size"
	}
	return "unknown reason"
}

// Decision is the router's answer.
type Decision struct {
	Arm    int     // index into Arms(op); −1: none
	Nanos  float64 // predicted, with moving; 0 when there is none
	Moving float64 // what of that copies to and from a device take
	Reason Reason
}
