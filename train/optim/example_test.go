// SPDX-License-Identifier: Apache-2.0

package optim_test

import (
	"context"
	"fmt"
	"log"
	"testing"

	setun "github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/optim"
)

// The loss is ½‖θ − 1‖², so the gradient is θ − 1. The radius lets each step go a quarter at most.
func ExampleOptimizer_Step() {
	rt, err := setun.Open(setun.WithoutNative(), setun.WithProfile("none"))
	if err != nil {
		log.Fatal(err)
	}
	defer rt.Close()
	p := optim.Tensor{Name: "theta", Rows: 2, Cols: 2, Value: make([]float32, 4), Grad: make([]float32, 4)}
	o, err := optim.New(rt, []optim.Tensor{p}, optim.Options{Method: optim.SGD})
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		for i, v := range p.Value {
			p.Grad[i] = v - 1
		}
		r, err := o.Step(context.Background(), optim.Control{Rate: 0.5, Radius: 0.25})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("step %d: update %.3f, taken %.3f, predicted decrease %.3f, value %.3f\n", r.Step, r.Update, r.Norm, r.Predicted, p.Value[0])
	}
	// Output:
	// step 1: update 1.000, taken 0.250, predicted decrease 0.500, value 0.125
	// step 2: update 0.875, taken 0.250, predicted decrease 0.437, value 0.250
	// step 3: update 0.750, taken 0.250, predicted decrease 0.375, value 0.375
}

func BenchmarkStep(b *testing.B) {
	rt, err := setun.Open(setun.WithProfile("none"), setun.WithoutLearning())
	if err != nil {
		b.Fatal(err)
	}
	defer rt.Close()
	const rows, cols = 2048, 512
	p := optim.Tensor{Name: "w", Rows: rows, Cols: cols, Value: make([]float32, rows*cols), Grad: make([]float32, rows*cols), Ternary: true, Decay: true}
	for i := range p.Value {
		p.Value[i], p.Grad[i] = float32(i%7-3)*0.01, float32(i%11-5)*0.01
	}
	for _, x := range []struct {
		name string
		o    optim.Options
		c    optim.Control
	}{
		{"plain", optim.Options{}, optim.Control{Rate: 1e-6}},
		{"clip and radius", optim.Options{Clip: 1}, optim.Control{Rate: 1e-6, Radius: 1e-4}},
		{"flips counted", optim.Options{Clip: 1, CountFlips: true}, optim.Control{Rate: 1e-6, Radius: 1e-4}},
		{"flips limited by row", optim.Options{Clip: 1, CountFlips: true, Groups: optim.ByRow}, optim.Control{Rate: 1e-6, Radius: 1e-4, FlipShare: 0.01}},
	} {
		b.Run(x.name, func(b *testing.B) {
			o, err := optim.New(rt, []optim.Tensor{p}, x.o)
			if err != nil {
				b.Fatal(err)
			}
			ctx := b.Context()
			if _, err := o.Step(ctx, x.c); err != nil { // makes what later steps use again
				b.Fatal(err)
			}
			b.SetBytes(4 * rows * cols)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := o.Step(ctx, x.c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
