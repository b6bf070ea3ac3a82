// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// Static decides by a router that stays as it is: a profile, prior knowledge, thresholds or a forced kernel.
type Static struct{ Router *dispatch.Router }

// Choose takes the router's decision.
func (p Static) Choose(s *dispatch.Shape) (int, bool) { return p.Router.Decide(s, 0).Arm, false }

// Observe does nothing.
func (p Static) Observe(dispatch.Observation) {}

// Learning decides as a runtime does that learns from its calls. Here every call is observed; a runtime observes as many as a hundredth of the time pays for.
type Learning struct {
	*dispatch.Learner
	probes map[backends.Op]*dispatch.Probe
}

// NewLearning starts from a router.
func NewLearning(r *dispatch.Router) *Learning {
	return &Learning{dispatch.NewLearner(r), map[backends.Op]*dispatch.Probe{}}
}

// Choose takes the latest router's decision, or a probe that waits for such a call.
func (p *Learning) Choose(s *dispatch.Shape) (int, bool) {
	if probe := p.probes[s.Op]; probe != nil && probe.Fits(s) {
		delete(p.probes, s.Op)
		return probe.Arm, true
	}
	return p.Router().Decide(s, 0).Arm, false
}

// Observe learns.
func (p *Learning) Observe(o dispatch.Observation) {
	if probe := p.Learner.Observe(o); probe != nil && probe.Over(p.probes[probe.Op]) {
		p.probes[probe.Op] = probe
	}
}
