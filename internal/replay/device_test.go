// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// A made-up device, three times as fast as the processor, behind a link of 10 µs and 12 bytes a nanosecond.
const (
	device     = dispatch.Memory(1)
	linkLaunch = 10_000.
	linkByte   = 1. / 12
)

// deviceCall is a call on one buffer: a norm, which reads, or constrain, which writes. Before it the program may have put new content into the host's memory.
type deviceCall struct {
	buffer         int
	written, fresh bool
}

// deviceWorld is a sequence of calls on buffers. Every buffer begins in the host's memory.
type deviceWorld struct {
	sizes []int
	calls []deviceCall
}

func (w *deviceWorld) shape(c deviceCall) dispatch.Shape {
	if c.written {
		return dispatch.Vector(backends.OpConstrain, w.sizes[c.buffer])
	}
	return dispatch.Vector(backends.OpNorm2, w.sizes[c.buffer])
}

func (w *deviceWorld) bytes(c deviceCall) float64 { return 4 * float64(w.sizes[c.buffer]) }

// takes is what a call takes on the host or on the device, with its operand there.
func (w *deviceWorld) takes(c deviceCall, on dispatch.Memory) float64 {
	if on == dispatch.Host {
		return 200 + w.bytes(c)/20
	}
	return 6000 + w.bytes(c)/60
}

// hindsight is the least time that the calls can take, by dynamic programming over where each buffer is: in the host's memory, the device's, or both.
func (w *deviceWorld) hindsight() float64 {
	total := 0.0
	for b := range w.sizes {
		least := map[dispatch.Spaces]float64{1 << dispatch.Host: 0}
		for _, c := range w.calls {
			if c.buffer != b {
				continue
			}
			next := map[dispatch.Spaces]float64{}
			for in, t := range least {
				if c.fresh {
					in = 1 << dispatch.Host
				}
				for _, on := range []dispatch.Memory{dispatch.Host, device} {
					then, after := t+w.takes(c, on), in|1<<on
					if !in.Has(on) {
						then += linkLaunch + linkByte*w.bytes(c)
					}
					if c.written {
						after = 1 << on
					}
					if old, ok := next[after]; !ok || then < old {
						next[after] = then
					}
				}
			}
			least = next
		}
		best := math.Inf(1)
		for _, t := range least {
			best = min(best, t)
		}
		total += best
	}
	return total
}

// play lets a policy choose where each call runs, and adds up what that takes.
func (w *deviceWorld) play(choose func(s *dispatch.Shape, operands []dispatch.Operand) dispatch.Memory) float64 {
	places := make([]dispatch.Residence, len(w.sizes))
	for i := range places {
		places[i] = dispatch.Residence{Bytes: 4 * float64(w.sizes[i]), In: 1 << dispatch.Host}
	}
	in := make([]dispatch.Spaces, len(w.sizes)) // kept by the game itself
	for i := range in {
		in[i] = 1 << dispatch.Host
	}
	total := 0.0
	for _, c := range w.calls {
		s := w.shape(c)
		if c.fresh {
			in[c.buffer] = 1 << dispatch.Host
			places[c.buffer].Overwrite(dispatch.Host)
		}
		on := choose(&s, []dispatch.Operand{{Residence: &places[c.buffer], Read: true, Written: c.written}})
		if !in[c.buffer].Has(on) {
			total += linkLaunch + linkByte*w.bytes(c)
		}
		total += w.takes(c, on)
		if in[c.buffer] |= 1 << on; c.written {
			in[c.buffer] = 1 << on
		}
	}
	return total
}

// TestBuffersMoveWhenItPays compares with hindsight: deciding by where buffers are, deciding as if moving were free, and deciding call by call as if nothing came after.
func TestBuffersMoveWhenItPays(t *testing.T) {
	arms := []dispatch.Arm{{Backend: "cpu", Kernel: "go"}, {Backend: "gpu", Kernel: "made-up", Memory: device}}
	p := &dispatch.Profile{Links: []dispatch.Link{{Memory: device, Launch: linkLaunch, Up: linkByte, Down: linkByte}}}
	w := &deviceWorld{}
	for _, op := range []backends.Op{backends.OpNorm2, backends.OpConstrain} {
		for on, a := range arms {
			var samples []dispatch.Sample
			for e := 8; e <= 24; e += 2 {
				w.sizes = []int{1 << e}
				samples = append(samples, dispatch.Sample{Shape: dispatch.Vector(op, 1<<e), Nanos: w.takes(deviceCall{}, dispatch.Memory(on))})
			}
			p.Set(op, a, dispatch.Fit(dispatch.Prior(op, a), samples))
		}
	}
	r, err := dispatch.NewRouter(map[backends.Op][]dispatch.Arm{backends.OpNorm2: arms, backends.OpConstrain: arms}, p, dispatch.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		repeat int     // calls with the same content, at most
		writes float64 // share of the calls that write
		atMost float64 // of hindsight
	}{
		{"new content each time", 1, 0, 1.01},
		{"new content each fourth time", 8, 0, 1.35},
		{"each tenth, half of the calls write", 20, 0.5, 1.3},
		{"each fiftieth", 100, 0.2, 1.1},
	} {
		for seed := range uint64(4) {
			random := rand.New(rand.NewPCG(seed, 5))
			w := &deviceWorld{}
			for range 200 {
				w.sizes = append(w.sizes, int(math.Exp2(8+14*random.Float64())))
			}
			for len(w.calls) < 5000 {
				b := random.IntN(len(w.sizes))
				for i := range 1 + random.IntN(c.repeat) {
					w.calls = append(w.calls, deviceCall{b, random.Float64() < c.writes, i == 0})
				}
			}
			best := w.hindsight()
			where := w.play(func(s *dispatch.Shape, operands []dispatch.Operand) dispatch.Memory {
				d := r.DecideAt(s, operands, 0)
				r.Settle(s, operands, d.Arm)
				return r.Arms(s.Op)[d.Arm].Memory
			}) / best
			blind := w.play(func(s *dispatch.Shape, _ []dispatch.Operand) dispatch.Memory {
				if r.Predict(s, 0).Nanos < r.Predict(s, 1).Nanos {
					return dispatch.Host
				}
				return device
			}) / best
			alone := w.play(func(s *dispatch.Shape, _ []dispatch.Operand) dispatch.Memory {
				return r.Arms(s.Op)[r.Decide(s, 0).Arm].Memory
			}) / best
			t.Logf("%s, seed %d: %.3f of hindsight; as if moving were free %.3f; as if each call were alone %.3f", c.name, seed, where, blind, alone)
			if where > c.atMost || where > 1.01*max(blind, alone) {
				t.Errorf("%s, seed %d: %.3f of hindsight", c.name, seed, where)
			}
		}
	}
}

// TestDeviceLearning: what moving takes is not learned as the kernel's time.
func TestDeviceLearning(t *testing.T) {
	arms := []dispatch.Arm{{Backend: "cpu", Kernel: "go"}, {Backend: "gpu", Kernel: "made-up", Memory: device}}
	r, err := dispatch.NewRouter(map[backends.Op][]dispatch.Arm{backends.OpNorm2: arms}, nil, dispatch.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	l, s := dispatch.NewLearner(r), dispatch.Vector(backends.OpNorm2, 1<<20)
	for range 50 {
		moving := l.Router().DecideAt(&s, nil, 1).Moving
		if moving < 4<<20/20. {
			t.Fatalf("a copy of 4 MB takes %.0f ns", moving)
		}
		l.Observe(dispatch.Observation{Shape: s, Arm: 1, Nanos: 50_000 + moving, Moving: moving, Parts: 1, Weight: 1})
	}
	if have := l.Router().Predict(&s, 1).Nanos; math.Abs(have-50_000) > 5000 {
		t.Errorf("the kernel is believed to take %.0f ns, it takes 50,000", have)
	}
	if d := l.Router().DecideAt(&s, nil, 1); math.Abs(d.Nanos-d.Moving-50_000) > 5000 {
		t.Errorf("a call is predicted to take %.0f ns, of which %.0f moving", d.Nanos, d.Moving)
	}
}
