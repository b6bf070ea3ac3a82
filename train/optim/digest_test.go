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

// TestSameBitsOnEveryMachine: runs from integers have the bits written down here, in pure Go and with what native libraries there are.
func TestSameBitsOnEveryMachine(t *testing.T) {
	native, err := setun.Open(setun.WithProfile("none"), setun.WithoutLearning())
	if err != nil {
		t.Fatal(err)
	}
	defer native.Close()
	clusters := everything // whose SuggestK finds no structure in random values
	clusters.K = 4
	for _, c := range []struct {
		name string
		opts Options
		want uint64
	}{
		{"everything", everything, 0x11f550cc4511c80a},
		{"four clusters", clusters, 0x1503675409ddb274},
		{"four clusters, SGD", Options{Method: SGD, Momentum: 0.9, Groups: ByKMeans, K: 4, Every: 5, Factors: Relative}, 0x3e79fa82ba62016f},
		{"no clusters", Options{Clip: 1, CountFlips: true}, 0x54476fd09abfd1dd},
	} {
		for name, rt := range map[string]*setun.Runtime{"pure Go": open(t), "native": native} {
			if got := run(t, rt, c.opts); got != c.want {
				t.Errorf("%s, %s: digest %#x, want %#x", c.name, name, got, c.want)
			}
		}
	}
}

// run takes some steps and returns the digest of what there is then.
func run(t *testing.T, rt *setun.Runtime, opts Options) uint64 {
	tensors := model(1)
	fill := func(v []float32, seed uint64, size float32) {
		for j := range v {
			v[j] = size * (float32(canon.Choose(seed, uint64(j), 1<<20))/(1<<19) - 1)
		}
	}
	for i, p := range tensors {
		fill(p.Value, uint64(i), 0.1)
	}
	o := must[*Optimizer](t)(New(rt, tensors, opts))
	c := must[*Compressor](t)(NewCompressor(rt, tensors, CompressOptions{Coding: Feedback}))
	plan := Schedule{Steps: 12, Warmup: 3, Peak: 1e-2, Decay: 0.1}
	for step := range plan.Steps {
		for i, p := range tensors {
			fill(p.Grad, uint64(100*step+i), 0.3)
		}
		must[Wire](t)(c.Compress(uint64(step)))
		rate, decay := plan.At(step)
		control := Control{Rate: rate, Decay: decay, Radius: 0.2}
		if opts.CountFlips {
			control.FlipShare = 0.02
		}
		must[Report](t)(o.Step(t.Context(), control))
	}
	return digest(o.State(c.State(nil)), tensors)
}
