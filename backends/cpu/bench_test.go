// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/lloyd"
	"github.com/setun-compute/setun/quant"
)

func normals(n int) []float32 {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func BenchmarkQuantize(b *testing.B) {
	x := normals(1_000_000)
	for _, rule := range []quant.Rule{quant.AbsMean, quant.LeastSquares} {
		for _, format := range []quant.Format{quant.Int8, quant.Bits2, quant.Base3} {
			b.Run(fmt.Sprintf("%v/%v/n=1e6", rule, format), func(b *testing.B) {
				o := quant.Options{Rule: rule, Format: format}.WithDefaults(len(x))
				var t quant.Tensor
				t.Resize(1, o)
				b.SetBytes(4 * int64(len(x)))
				b.ReportAllocs()
				for b.Loop() {
					if err := (Backend{}).Quantize(backends.Kernel{}, &backends.Quantize{X: x, Rule: o.Rule, Dst: &t}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkAssign(b *testing.B) {
	const n, d, k = 10_000, 64, 64
	x, c := normals(n*d), normals(k*d)
	s := lloyd.Step{Kind: lloyd.Assign, X: x, N: n, D: d, K: k, Mean: make([]float32, d), Centroids: c, Bias: make([]float32, k), Labels: make([]int32, n)}
	for b.Loop() {
		assign(&s)
	}
	b.ReportMetric(2*n*d*k*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
}

func BenchmarkConstrain(b *testing.B) {
	x := normals(1_000_000)
	dst := make([]float32, len(x))
	for name, radius := range map[string]float64{"inside": 1e9, "outside": 1} {
		b.Run(name+"/n=1e6", func(b *testing.B) {
			b.SetBytes(4 * int64(len(x)))
			for b.Loop() {
				if err := (Backend{}).Constrain(backends.Kernel{}, &backends.Constrain{X: x, Dst: dst, Radius: radius}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
