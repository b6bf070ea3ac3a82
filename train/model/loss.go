// SPDX-License-Identifier: Apache-2.0

package model

import (
	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/runtime"
)

// crossEntropy returns the mean loss of logits in nats, a row's being ln Σe^x − x_target, in float64 from float32 powers. It replaces the logits: with a factor other than 0 by
// factor·(softmax − one at the target), the gradient of the rows' losses times factor.
func (m *Model) crossEntropy(logits []float32, targets []int32, factor float64) (float64, error) {
	c, b := m.c.Vocab, &m.buffers
	at, stats := grow(&b.at, len(targets)), grow(&b.stats, 2*len(targets))
	if err := m.rt.Home(logits); err != nil {
		return 0, err
	}
	for r, target := range targets {
		at[r] = logits[r*c+int(target)]
	}
	if err := m.rt.Softmax(runtime.Softmax{X: logits, Cols: c, Scale: 1, Factor: factor, Stats: stats}); err != nil {
		return 0, err
	}
	if err := m.rt.Home(logits); err != nil {
		return 0, err
	}
	sum := 0.0
	for r, target := range targets {
		sum += canon.Log(stats[2*r+1]) + (stats[2*r] - float64(at[r]))
		logits[r*c+int(target)] -= float32(factor)
	}
	return sum / float64(len(targets)), m.rt.Changed(logits)
}
