// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
)

// BenchmarkCall measures what the runtime adds to a call: the decision alone, the raw kernel through its backend, the whole call.
func BenchmarkCall(b *testing.B) {
	rt := open(b, libraries(b))
	x := ramp(64)
	shape := dispatch.Vector(backends.OpConstrain, len(x))
	b.Run("decision", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			rt.router.Load().Decide(&shape, 0)
		}
	})
	kernels := map[string]*arm{}
	for _, a := range rt.arms[backends.OpConstrain] {
		kernels[a.name] = a
	}
	for _, name := range []string{"cpu/go", "simd_c/avx512", "simd_c/avx2", "simd_c/sse42", "simd_c/neon"} {
		a, ok := kernels[name]
		if !ok {
			continue
		}
		b.Run("kernel/"+name, func(b *testing.B) {
			b.ReportAllocs()
			args := backends.Constrain{X: x, Dst: x, Radius: 1e9}
			for b.Loop() {
				a.backend.Constrain(a.kernel, &args)
			}
		})
		b.Run("Constrain/"+name, func(b *testing.B) {
			forced := open(b, libraries(b), WithForce(name))
			b.ReportAllocs()
			for b.Loop() {
				forced.Constrain(x, x, 1e9)
			}
		})
	}
	b.Run("Constrain/chosen", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			rt.Constrain(x, x, 1e9)
		}
	})
	b.Run("Constrain/with a deadline", func(b *testing.B) {
		ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
		defer cancel()
		forced := open(b, libraries(b), WithForce("simd_c"))
		b.ReportAllocs()
		for b.Loop() {
			forced.ConstrainContext(ctx, x, x, 1e9)
		}
	})
	b.Run("Constrain/buffer", func(b *testing.B) {
		buffer, err := rt.NewBuffer(len(x))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			buffer.Constrain(context.Background(), nil, 1e9)
		}
	})
}

// BenchmarkQuantize is the throughput of each kernel, int8 codes by absmean, input bytes a second.
func BenchmarkQuantize(b *testing.B) {
	all := open(b, libraries(b))
	for _, n := range []int{1_000_000, 100_000_000} {
		x := ramp(n)
		for _, arm := range all.Arms(backends.OpQuantize) {
			b.Run(fmt.Sprintf("%v/n=%.0e", arm, float64(n)), func(b *testing.B) {
				rt := open(b, libraries(b), WithForce(arm.String()))
				q, err := rt.Quantize(nil, x, quant.Options{})
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(4 * int64(n))
				b.ReportAllocs()
				for b.Loop() {
					rt.Quantize(q, x, quant.Options{})
				}
			})
		}
	}
}

// BenchmarkSuggestK looks at every k up to 64 for 100,000 points of 32 values in 16 clusters; kmeans is one run of KMeans at the right k, for scale.
func BenchmarkSuggestK(b *testing.B) {
	const n, dim, k = 100_000, 32, 16
	x := blobs(rand.New(rand.NewPCG(1, 1)), n, dim, k, 8, 0)
	for name, rt := range map[string]*Runtime{"pure": open(b, WithoutNative()), "native": open(b, libraries(b))} {
		b.Run(name+"/suggest", func(b *testing.B) {
			var s *Suggestion
			for b.Loop() {
				var err error
				if s, err = rt.SuggestK(context.Background(), x, dim, SuggestOptions{}); err != nil || s.K != k {
					b.Fatal(s, err)
				}
			}
			b.ReportMetric(float64(s.RowVisits)/n, "visits/row")
		})
		b.Run(name+"/kmeans", func(b *testing.B) {
			var c *Clustering
			for b.Loop() {
				var err error
				if c, err = rt.KMeans(context.Background(), c, x, dim, KMeansOptions{K: k}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(c.Iterations), "iterations")
		})
	}
}

// BenchmarkStep compares a step with the three calls that it stands for; bytes are those of the parameters.
func BenchmarkStep(b *testing.B) {
	rt := open(b, libraries(b))
	for _, n := range []int{1_000_000, 50_000_000} {
		params, delta, moved := ramp(n), ramp(n), make([]float32, n)
		q := new(quant.Tensor)
		b.Run(fmt.Sprintf("fused/n=%.0e", float64(n)), func(b *testing.B) {
			b.SetBytes(4 * int64(n))
			for b.Loop() {
				rt.Step(q, params, delta, 1, quant.Options{})
			}
		})
		b.Run(fmt.Sprintf("three calls/n=%.0e", float64(n)), func(b *testing.B) {
			b.SetBytes(4 * int64(n))
			for b.Loop() {
				rt.Constrain(moved, delta, 1)
				for i, v := range moved {
					params[i] += v
				}
				rt.Quantize(q, params, quant.Options{})
			}
		})
	}
}

// BenchmarkClusters compares one call for a thousand clusters of a thousand values with a Constrain for each.
func BenchmarkClusters(b *testing.B) {
	const k, m = 1000, 1000
	rt := open(b, libraries(b))
	x, out := ramp(k*m), make([]float32, k*m)
	c := Clusters{Offsets: make([]int64, k+1), Radii: make([]float64, k)}
	for i := range k {
		c.Offsets[i+1], c.Radii[i] = m*int64(i+1), 1
	}
	b.Run("one call", func(b *testing.B) {
		b.SetBytes(4 * k * m)
		for b.Loop() {
			rt.ConstrainClusters(out, x, &c)
		}
	})
	b.Run("a call each", func(b *testing.B) {
		b.SetBytes(4 * k * m)
		for b.Loop() {
			for i := range k {
				rt.Constrain(out[i*m:(i+1)*m], x[i*m:(i+1)*m], 1)
			}
		}
	})
}
