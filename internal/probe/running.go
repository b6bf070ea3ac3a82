// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/quarantine"
)

// Note says in a place of a file of calls that a kernel is about to be called. It is some stores.
func Note(p *quarantine.Place, kernel uint32, s *dispatch.Shape) {
	p.Sizes[0], p.Sizes[1], p.Sizes[2], p.Sizes[3], p.Sizes[4], p.Sizes[5], p.Sizes[6] = s.N, s.D, s.K, s.M, s.Batch, s.Groups, s.Out // from memory to memory: an array would be built elsewhere first
	p.Variant = uint32(s.Variant)
	p.Kernel = kernel
}

// shape is what Note has noted.
func shape(op backends.Op, variant uint32, n [quarantine.Dims]int64) dispatch.Shape {
	return dispatch.Shape{Op: op, Variant: dispatch.Variant(variant), N: n[0], D: n[1], K: n[2], M: n[3], Batch: n[4], Groups: n[5], Out: n[6]}
}

// Describe says what was running when a process ended, and what came of that.
func Describe(s quarantine.Suspect) string {
	what, usual := fmt.Sprintf("%s of %s, of %d bytes", s.Op, s.File, s.Sizes[0]), "usual trials on the device, which copy, passed"
	for _, op := range backends.Ops() {
		if op.String() == s.Op {
			what, usual = fmt.Sprintf("%s/%s of %s on %v", s.Op, s.Name, s.File, shape(op, s.Variant, s.Sizes)), "that shape is too large to be tried again, or does not say all; its usual trials passed"
		}
	}
	times := ""
	if s.Count > 1 {
		times = fmt.Sprintf(" (and %d before it)", s.Count-1)
	}
	came := "it is to be tried again before the library is loaded"
	switch s.Fate {
	case quarantine.Passed:
		came = "it was tried again, and nothing was wrong"
	case quarantine.Failed:
		came = "it was tried again, and failed"
	case quarantine.Usual:
		came = usual
	case quarantine.Untried:
		came = "it could not be tried again, for want of time or memory"
	case quarantine.Gone:
		came = "it could not be tried again: the library has no such kernel here"
	}
	return fmt.Sprintf("process %d%s ended while it was in %s: it crashed, was killed or ended by itself; %s", s.Process, times, what, came)
}
