// SPDX-License-Identifier: Apache-2.0

package model

import "fmt"

// SetMixes is SetMix with a λ for each linear layer, in the order of those of Params that are Ternary: some multiply by ternary weights while others still have theirs in float32. In a model that is not ternary it does nothing.
//
// Errors: ErrArgument for another number of them; nothing has changed then.
func (m *Model) SetMixes(lambdas []float32) error {
	if len(lambdas) != len(m.linears) {
		return fmt.Errorf("%w: %d λ for %d linear layers", ErrArgument, len(lambdas), len(m.linears))
	}
	if !m.c.Ternary {
		return nil
	}
	for i, l := range m.linears {
		l.setMix(lambdas[i])
	}
	return nil
}

// setMix takes λ into [0, 1]. A weight is mixed again only for another λ: most layers of a schedule wait or are done.
func (l *linear) setMix(lambda float32) {
	if !(lambda > 0) {
		lambda = 0
	}
	if lambda = min(lambda, 1); lambda != l.mix {
		l.mix, l.stale = lambda, true
	}
}
