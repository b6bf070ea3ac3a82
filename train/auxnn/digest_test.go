// SPDX-License-Identifier: Apache-2.0

package auxnn

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"testing"

	"github.com/setun-compute/setun/internal/canon"
)

// TestSameBitsOnEveryMachine: a run from integers has the bits written down here.
func TestSameBitsOnEveryMachine(t *testing.T) {
	const want = 0xfc323a0755e2fb66
	c := New(Options{Seed: 5})
	draw := func(i, k int) float64 { return float64(canon.Choose(uint64(k), uint64(i), 1<<20)) / (1 << 20) }
	h := fnv.New64a()
	for i := range 300 {
		c.Watch(Signals{Loss: 3 + draw(i, 0), GradNorm: 1 + draw(i, 1), Cosine: draw(i, 2) - 0.5, StepNorm: 0.01 + draw(i, 3), ValueNorm: 10, FlipShare: draw(i, 4), FlipTarget: 0.5})
		f := c.Decide()
		if err := c.Observe(Outcome{Ratio: float64(3*draw(i, 5)) - 1, Active: draw(i, 6) > 0.5, Cosine: draw(i, 2) - 0.5}); err != nil {
			t.Fatal(err)
		}
		for _, v := range append(c.net.w[:], f.Rate, f.Radius) {
			h.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))
		}
	}
	if got := h.Sum64(); got != want {
		t.Errorf("digest %#x, want %#x", got, uint64(want))
	}
}
