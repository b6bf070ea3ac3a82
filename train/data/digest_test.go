// SPDX-License-Identifier: Apache-2.0

package data

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"testing"
)

// TestSameBitsOnEveryMachine: clusters of a text and batches of them have the bits written down here.
func TestSameBitsOnEveryMachine(t *testing.T) {
	const want = 0x78e88e78dc51383c
	tokens, _ := mixture()
	c, err := Cluster(t.Context(), open(t), tokens, 256, ClusterOptions{Context: 48, K: 6, Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	h := fnv.New64a()
	for _, d := range c.Difficulty {
		h.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(d)))
	}
	for _, o := range []SamplerOptions{{}, {Clusters: c, Jitter: 40, Ramp: 30}, {Clusters: c, Order: RoundRobin}} {
		o.Context, o.Batch, o.Seed = 32, 9, 7
		s, err := NewSampler(tokens, o)
		if err != nil {
			t.Fatal(err)
		}
		for step := range uint64(40) {
			in, _ := s.Batch(step, nil, nil)
			for _, v := range in {
				h.Write([]byte{byte(v)})
			}
		}
	}
	if got := h.Sum64(); got != want {
		t.Errorf("digest %#x, want %#x", got, uint64(want))
	}
}
