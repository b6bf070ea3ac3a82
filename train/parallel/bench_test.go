// SPDX-License-Identifier: Apache-2.0

package parallel

import (
	"sync"
	"testing"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/train/optim"
)

// BenchmarkAdd adds a million gradients of two ranks of one process: what it costs beside the wire.
func BenchmarkAdd(b *testing.B) {
	for name, make := range map[string]func(p Peers, list []optim.Tensor) (Reducer, error){
		"float32": func(p Peers, list []optim.Tensor) (Reducer, error) { return NewFloats(p, list), nil },
		"ternary-row": func(p Peers, list []optim.Tensor) (Reducer, error) {
			return NewCodes(open(b), NewForum(p), list, quant.PerRow)
		},
	} {
		b.Run(name, func(b *testing.B) {
			var all sync.WaitGroup
			for _, p := range Local(2) {
				t := optim.Tensor{Name: "a", Rows: 2048, Cols: 512}
				t.Value, t.Grad = values(t.Rows*t.Cols), values(t.Rows*t.Cols)
				r, err := make(p, []optim.Tensor{t})
				if err != nil {
					b.Fatal(err)
				}
				all.Go(func() {
					for i := range b.N {
						if err := r.Add(uint64(i)); err != nil {
							b.Error(err)
						}
						t.Grad[i%len(t.Grad)] += 0.25
					}
				})
			}
			all.Wait()
		})
	}
}

func values(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i*7919%1000)/500 - 1
	}
	return v
}
