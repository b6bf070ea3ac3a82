// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

func grads(tensors []Tensor) (g [][]float32) {
	for _, p := range tensors {
		g = append(g, slices.Clone(p.Grad))
	}
	return g
}

func setGrads(tensors []Tensor, g [][]float32) {
	for i, p := range tensors {
		copy(p.Grad, g[i])
	}
}

// TestUnbiased averages many draws.
func TestUnbiased(t *testing.T) {
	tensors := model(1)
	gradients(tensors, 0)
	want := grads(tensors)
	c := must[*Compressor](t)(NewCompressor(open(t), tensors, CompressOptions{Sigma: math.Inf(1), Seed: 4}))
	const rounds = 3000
	mean := make([][]float64, len(want))
	for i := range mean {
		mean[i] = make([]float64, len(want[i]))
	}
	for round := range rounds {
		setGrads(tensors, want)
		w := must[Wire](t)(c.Compress(uint64(round)))
		if w.Values != 902 || w.Float32 != 4*902 || w.Zeros < 0.5 || w.Relative < 0.5 {
			t.Fatalf("%+v", w)
		}
		for i, p := range tensors {
			for j, g := range p.Grad {
				mean[i][j] += float64(g) / rounds
			}
		}
	}
	for i, p := range tensors {
		scale := float64(c.Codes(i).Scales[0]) // the deviation of a draw is at most half of it
		for j, g := range want[i] {
			if math.Abs(mean[i][j]-float64(g)) > 5*0.5*scale/math.Sqrt(rounds) {
				t.Errorf("%s[%d]: mean %v of %v", p.Name, j, mean[i][j], g)
			}
		}
	}
}

// TestClamp: with TernGrad's clamp the scale is at most 2.5 root mean squares.
func TestClamp(t *testing.T) {
	tensors := model(1)
	gradients(tensors, 0)
	tensors[0].Grad[7] = 1000
	sum := 0.0
	for _, g := range tensors[0].Grad {
		sum += float64(g) * float64(g)
	}
	c := must[*Compressor](t)(NewCompressor(open(t), tensors, CompressOptions{}))
	must[Wire](t)(c.Compress(0))
	if s, want := float64(c.Codes(0).Scales[0]), 2.5*math.Sqrt(sum/480); math.Abs(s-want) > 1e-5*want {
		t.Errorf("scale %v, want %v", s, want)
	}
}

// TestFeedback: what was sent and what is still held add up to what was given, and two parts with a state between them are one run.
func TestFeedback(t *testing.T) {
	rt := open(t)
	for _, group := range []int{0, quant.PerRow} {
		tensors := model(1)
		c := must[*Compressor](t)(NewCompressor(rt, tensors, CompressOptions{Coding: Feedback, Group: group}))
		given, sent := make([][]float64, len(tensors)), make([][]float64, len(tensors))
		for i, p := range tensors {
			given[i], sent[i] = make([]float64, len(p.Grad)), make([]float64, len(p.Grad))
		}
		add := func(sum [][]float64) {
			for i, p := range tensors {
				for j, g := range p.Grad {
					sum[i][j] += float64(g)
				}
			}
		}
		for step := range 40 {
			if step == 20 {
				data := must[[]byte](t)(json.Marshal(c.State(nil)))
				var s State
				if err := json.Unmarshal(data, &s); err != nil {
					t.Fatal(err)
				}
				c = must[*Compressor](t)(NewCompressor(rt, tensors, CompressOptions{Coding: Feedback, Group: group}))
				if err := c.Load(&s); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(&s, c.State(nil)); d != "" {
					t.Error(d)
				}
			}
			gradients(tensors, step)
			add(given)
			w := must[Wire](t)(c.Compress(uint64(step)))
			add(sent)
			if w.Relative <= 0.1 || w.Relative > 0.4 {
				t.Errorf("%+v: least squares loses some 0.19", w)
			}
		}
		for i := range tensors {
			for j := range given[i] {
				if d := given[i][j] - sent[i][j] - float64(c.residual[i][j]); math.Abs(d) > 1e-5 {
					t.Fatalf("group %d: tensor %d, value %d: %v was lost", group, i, j, d)
				}
			}
		}
	}
}

func TestWireBytes(t *testing.T) {
	tensors := []Tensor{{Name: "a", Rows: 3, Cols: 7, Value: make([]float32, 21), Grad: make([]float32, 21)}}
	for j := range tensors[0].Grad {
		tensors[0].Grad[j] = float32(j%3 - 1) // ternary already, evenly
	}
	c := must[*Compressor](t)(NewCompressor(open(t), tensors, CompressOptions{Coding: Feedback}))
	w := must[Wire](t)(c.Compress(0))
	want := Wire{Values: 21, Float32: 84, Bits2: 3*2 + 4, Base3: 3*2 + 4, Entropy: 5 + 4 + 16, Zeros: 1. / 3} // 21·log₂3 = 33.3 bits
	if d := cmp.Diff(want, w); d != "" {
		t.Error(d)
	}
	tensors[0].Grad[20] = float32(math.NaN())
	if _, err := c.Compress(1); !errors.Is(err, setun.ErrNonFinite) {
		t.Error(err)
	}
	clear(tensors[0].Grad)
	if w, err := c.Compress(2); err != nil || w.Zeros != 1 || w.Relative != 0 || w.Entropy != 20 {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestCompressAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget")
	}
	rt := open(t)
	for _, coding := range []Coding{Unbiased, Feedback} {
		tensors := model(1)
		gradients(tensors, 0)
		c := must[*Compressor](t)(NewCompressor(rt, tensors, CompressOptions{Coding: coding}))
		if n := testing.AllocsPerRun(50, func() { must[Wire](t)(c.Compress(1)) }); n > 1 { // must's closure
			t.Errorf("coding %d: %v allocations", coding, n)
		}
	}
}
