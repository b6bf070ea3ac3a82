// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/quant"
)

// radius draws a radius: none, tiny, in the middle of what norms are, or no limit.
func radius(r *rand.Rand) float64 {
	return []float64{0, 1e-42, 1e-20, 0.5, 1, 30, 1e38, math.Inf(1)}[r.IntN(8)]
}

func (s *suite) clusters() {
	lengths := []int{0, 1, 4095, 0, 4096, 4097, 33, 7, 70_001, 1, 12_289, 100, 0}
	for ki, kind := range kinds {
		r := rand.New(rand.NewPCG(uint64(ki), 1))
		var segments backends.Clusters
		segments.Offsets = []int64{0}
		n := 0
		for _, l := range lengths {
			n += l
			segments.Offsets = append(segments.Offsets, int64(n))
		}
		s.clustersCase(fmt.Sprintf("%s segments", kind), kind, n, len(lengths), segments, r)
		for _, n := range sizes() {
			s.clustersCase(fmt.Sprintf("%s one segment of %d", kind, n), kind, n, 1, backends.Clusters{Offsets: []int64{0, int64(n)}}, r)
		}
		for _, shape := range [][3]int{{1, 1, 1}, {7, 1, 3}, {40, 33, 4}, {5, 4097, 2}, {3, 70_001, 2}, {100, 100, 200}, {9001, 3, 2}} {
			rows, cols, k := shape[0], shape[1], shape[2]
			labels := make([]int32, rows)
			for i := range labels {
				labels[i] = int32(r.IntN(k+1)) - 1
			}
			s.clustersCase(fmt.Sprintf("%s %d rows of %d", kind, rows, cols), kind, rows*cols, k, backends.Clusters{Labels: labels}, r)
		}
	}
	for _, n := range sizes() {
		s.nonFinite(n, func(x []float32) error {
			c := int64(n / 2)
			return s.b.ConstrainClusters(s.k, &backends.Clusters{X: x, Dst: x, Offsets: []int64{0, c, c, int64(n)}, Radii: []float64{0, 1, 1}, Norms: make([]float64, 3)})
		})
		s.nonFinite(n, func(x []float32) error {
			labels := make([]int32, n)
			labels[n-1] = -1
			return s.b.ConstrainClusters(s.k, &backends.Clusters{X: x, Dst: x, Labels: labels, Radii: []float64{0}, Norms: make([]float64, 1)})
		})
	}
}

func (s *suite) clustersCase(name, kind string, n, k int, a backends.Clusters, r *rand.Rand) {
	a.Radii = make([]float64, k)
	for range 3 {
		for c := range a.Radii {
			a.Radii[c] = radius(r)
		}
		for _, inPlace := range []bool{false, true} {
			s.cases++
			want, got := a, a
			want.X, got.X = data(kind, n, n%16), data(kind, n, n%16)
			want.Dst, got.Dst = want.X, got.X
			if !inPlace {
				want.Dst, got.Dst = make([]float32, n), make([]float32, n+1)[1:]
			}
			want.Norms, got.Norms = make([]float64, k), make([]float64, k)
			errWant, errGot := cpu.Backend{}.ConstrainClusters(backends.Kernel{}, &want), s.b.ConstrainClusters(s.k, &got)
			if errWant != nil || errGot != nil {
				s.Fatalf("%s, in place=%v: %v, pure Go: %v", name, inPlace, errGot, errWant)
			}
			for c := range k {
				if got.Norms[c] != want.Norms[c] {
					s.Fatalf("%s, in place=%v: norm %d is %v, pure Go %v", name, inPlace, c, got.Norms[c], want.Norms[c])
				}
			}
			if i := same(want.Dst, got.Dst); i >= 0 {
				s.Fatalf("%s, in place=%v: value %d is %v, pure Go %v (radii %v)", name, inPlace, i, got.Dst[i], want.Dst[i], a.Radii)
			}
		}
	}
}

func (s *suite) step() {
	for _, n := range sizes() {
		for ki, kind := range kinds {
			if kind == "huge" {
				continue // it would overflow now and then, which failures are tested for below
			}
			r := rand.New(rand.NewPCG(uint64(n), uint64(ki)))
			for rule := quant.AbsMean; rule <= quant.Stochastic; rule++ {
				for li, layout := range [][2]int{{n, 0}, {n, quant.PerRow}, {n, 64}, {n, 100}, {max(1, n/7), 5}, {1, 0}} {
					o := quant.Options{Rule: rule, Format: quant.Format(1 + (li+ki)%3), Cols: layout[0], Group: layout[1], Seed: uint64(n)}
					if (li+ki)%4 == 3 {
						o.Levels, o.Format = quant.Quinary, quant.Int8
					}
					if o.Group > o.Cols || n > 10_000 && o.Cols == 1 {
						continue
					}
					s.stepCase(kind, n/o.Cols*o.Cols, radius(r), o)
				}
			}
		}
		for _, group := range []int{0, 1, n} {
			s.stepFails(n, quant.Options{Group: group})
		}
	}
}

func (s *suite) stepCase(kind string, n int, w float64, o quant.Options) {
	s.cases++
	o = o.WithDefaults(n)
	name := fmt.Sprintf("%s n=%d cols=%d group=%d %v %v %v radius=%v", kind, n, o.Cols, o.Group, o.Levels, o.Rule, o.Format, w)
	// Pure Go is held against the three ops that a step is.
	delta, params := data(kind, n, (n+3)%16), data("normal", n, n%16)
	moved := make([]float32, n)
	c := backends.Constrain{X: delta, Dst: moved, Radius: w}
	if err := (cpu.Backend{}).Constrain(backends.Kernel{}, &c); err != nil {
		s.Fatalf("%s: %v", name, err)
	}
	for i, v := range moved {
		moved[i] = params[i] + v
	}
	var want, got quant.Tensor
	want.Resize(n/o.Cols, o)
	if err := (cpu.Backend{}).Quantize(backends.Kernel{}, &backends.Quantize{X: moved, Rule: o.Rule, Seed: o.Seed, Dst: &want}); err != nil {
		s.Fatalf("%s: %v", name, err)
	}
	got.Resize(n/o.Cols, o)
	a := backends.Step{Params: params, Delta: delta, Radius: w, Rule: o.Rule, Seed: o.Seed, Dst: &got}
	if err := s.b.Step(s.k, &a); err != nil {
		s.Fatalf("%s: %v", name, err)
	}
	if a.Norm != c.Norm {
		s.Fatalf("%s: norm %v, constrain %v", name, a.Norm, c.Norm)
	}
	if i := same(moved, params); i >= 0 {
		s.Fatalf("%s: parameter %d is %v, constrain and add %v", name, i, params[i], moved[i])
	}
	if i := same(data(kind, n, (n+3)%16), delta); i >= 0 {
		s.Fatalf("%s: delta %d has changed", name, i)
	}
	if i := same(want.Scales, got.Scales); i >= 0 {
		s.Fatalf("%s: scale %d is %v, quantize %v", name, i, got.Scales[i], want.Scales[i])
	}
	if string(want.Packed) != string(got.Packed) {
		s.Fatalf("%s: packed codes differ from quantize", name)
	}
	for i := range want.Codes {
		if want.Codes[i] != got.Codes[i] {
			s.Fatalf("%s: code %d of %v is %d, quantize %d", name, i, params[i], got.Codes[i], want.Codes[i])
		}
	}
}

// stepFails: a bad delta leaves the parameters; parameters that overflow are named, and all applied.
func (s *suite) stepFails(n int, o quant.Options) {
	o = o.WithDefaults(n)
	var dst quant.Tensor
	dst.Resize(1, o)
	delta, params := data("normal", n, 1), data("normal", n, 2)
	s.nonFinite(n, func(x []float32) error {
		before := append([]float32(nil), params...)
		err := s.b.Step(s.k, &backends.Step{Params: params, Delta: x, Radius: 1, Rule: o.Rule, Dst: &dst})
		if i := same(before, params); i >= 0 {
			s.Fatalf("n=%d: parameter %d changed although delta was bad", n, i)
		}
		var e *backends.Error
		if errors.As(err, &e) && len(e.Detail) > 5 && e.Detail[:5] == "delta" {
			e.Detail = "x" + e.Detail[5:] // as nonFinite expects it
		}
		return err
	})
	s.cases++
	at := n / 2
	delta[at], params[at] = 3e38, 3e38
	want := make([]float32, n)
	for i := range want {
		want[i] = params[i] + delta[i]
	}
	err := s.b.Step(s.k, &backends.Step{Params: params, Delta: delta, Radius: math.Inf(1), Rule: o.Rule, Dst: &dst})
	var e *backends.Error
	if !errors.As(err, &e) || e.Err != backends.ErrNonFinite || e.Detail != fmt.Sprintf("params[%d] = +Inf", at) {
		s.Fatalf("n=%d: overflow at %d: %v", n, at, err)
	}
	if i := same(want, params); i >= 0 {
		s.Fatalf("n=%d: after an overflow parameter %d is %v, not %v", n, i, params[i], want[i])
	}
}
