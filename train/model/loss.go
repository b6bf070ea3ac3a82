// SPDX-License-Identifier: Apache-2.0

package model

import "github.com/setun-compute/setun/internal/canon"

// crossEntropy computes the loss of each row of logits in nats, ln Σe^x − x_target, in float64 from float32 powers. With a factor it replaces the logits by factor·(softmax − one at the target), the loss's gradient times factor.
type crossEntropy struct {
	cols    int
	x       []float32
	targets []int32
	losses  []float64
	factor  float64 // 0: logits stay
}

func (k *crossEntropy) rows(lo, hi int) {
	c := k.cols
	for r := lo; r < hi; r++ {
		x := k.x[r*c:][:c]
		target := k.targets[r]
		greatest := x[0]
		for _, v := range x {
			greatest = max(greatest, v)
		}
		above := float64(greatest) - float64(x[target])
		sum := 0.0
		if k.factor == 0 {
			for _, v := range x {
				sum += float64(canon.Exp32(v - greatest))
			}
			k.losses[r] = canon.Log(sum) + above
			continue
		}
		sum = canon.ExpSum(x, 1, greatest)
		k.losses[r] = canon.Log(sum) + above
		f := float32(k.factor / sum)
		for i, e := range x {
			x[i] = float32(e * f)
		}
		x[target] -= float32(k.factor)
	}
}

// crossEntropy returns the mean loss of the logits of rows tokens; see the type.
func (m *Model) crossEntropy(logits []float32, targets []int32, factor float64) float64 {
	losses := grow(&m.buffers.losses, len(targets))
	m.kernels.loss = crossEntropy{cols: m.c.Vocab, x: logits, targets: targets, losses: losses, factor: factor}
	m.workers.run(&m.kernels.loss, len(targets), rowGrain, 4*m.c.Vocab)
	m.kernels.loss.targets = nil // the caller's
	sum := 0.0
	for _, v := range losses {
		sum += v
	}
	return sum / float64(len(losses))
}
