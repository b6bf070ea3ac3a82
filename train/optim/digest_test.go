// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"
	"testing"

	"github.com/setun-compute/setun/internal/canon"
	setun "github.com/setun-compute/setun/runtime"
)

// digest hashes a state and values, in the order of names.
func digest(s *State, tensors []Tensor) uint64 {
	h := fnv.New64a()
	floats := func(v []float32) {
		for _, x := range v {
			h.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(x)))
		}
	}
	var names []string
	for name := range s.Floats {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		floats(s.Floats[name])
	}
	for _, p := range tensors {
		floats(p.Value)
		for _, f := range append(slices.Clone(s.Factors[p.Name+"/rate"]), s.Factors[p.Name+"/reach"]...) {
			h.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(f)))
		}
	}
	return h.Sum64()
}

// TestSameBitsOnEveryMachine: a run of everything, from integers, has the bits written down here, in pure Go and with what native libraries there are.
func TestSameBitsOnEveryMachine(t *testing.T) {
	const want = 0x11f550cc4511c80a
	native, err := setun.Open(setun.WithProfile("none"), setun.WithoutLearning())
	if err != nil {
		t.Fatal(err)
	}
	defer native.Close()
	for name, rt := range map[string]*setun.Runtime{"pure Go": open(t), "native": native} {
		tensors := model(1)
		fill := func(v []float32, seed uint64, size float32) {
			for j := range v {
				v[j] = size * (float32(canon.Choose(seed, uint64(j), 1<<20))/(1<<19) - 1)
			}
		}
		for i, p := range tensors {
			fill(p.Value, uint64(i), 0.1)
		}
		o := must[*Optimizer](t)(New(rt, tensors, everything))
		c := must[*Compressor](t)(NewCompressor(rt, tensors, CompressOptions{Coding: Feedback}))
		plan := Schedule{Steps: 12, Warmup: 3, Peak: 1e-2, Decay: 0.1}
		for step := range plan.Steps {
			for i, p := range tensors {
				fill(p.Grad, uint64(100*step+i), 0.3)
			}
			must[Wire](t)(c.Compress(uint64(step)))
			rate, decay := plan.At(step)
			must[Report](t)(o.Step(t.Context(), Control{Rate: rate, Decay: decay, Radius: 0.2, FlipShare: 0.02}))
		}
		if got := digest(o.State(c.State(nil)), tensors); got != want {
			t.Errorf("%s: digest %#x, want %#x", name, got, uint64(want))
		}
	}
}
