// SPDX-License-Identifier: Apache-2.0

// Package conform is the suite that every backend must pass: each kernel against pure Go, bit for bit, or against a bound on rounding when it is Fast.
//
// Inputs have awkward lengths and offsets, ties, subnormals, huge and tiny values; guard values behind outputs and copies of
// inputs show stray writes. A failure prints the case, which is the same on every run.
package conform

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/quant"
)

// Run compares every kernel of b with package cpu. It fails when b has no kernels.
func Run(t *testing.T, b backends.Backend) {
	if len(b.Kernels()) == 0 {
		t.Fatalf("%s has no kernels: nothing was compared", b.Name())
	}
	clusterings := map[string]backends.KMeans{}
	for _, k := range b.Kernels() {
		t.Run(k.Op.String()+"/"+k.Name, func(t *testing.T) {
			s := &suite{T: t, b: b, k: k, clusterings: clusterings}
			switch k.Op {
			case backends.OpQuantize:
				s.quantize()
				s.largeQuantize()
			case backends.OpConstrain:
				s.constrain()
				s.largeConstrain()
			case backends.OpDot, backends.OpNorm2:
				s.reduce()
			case backends.OpKMeans:
				s.kmeans()
			case backends.OpMatMul:
				s.products()
			case backends.OpClusters:
				s.clusters()
			case backends.OpStep:
				s.step()
			}
			t.Logf("%d cases", s.cases)
			if s.cases == 0 {
				t.Error("no case ran")
			}
			if k.Fast && !s.telling {
				t.Error("no bound would have noticed zeros in place of the results")
			}
		})
	}
}

type suite struct {
	*testing.T
	b       backends.Backend
	k       backends.Kernel
	cases   int
	telling bool // of fast kernels: some result was larger than its bound

	clusterings map[string]backends.KMeans // what pure Go says, by the name of the case: it is slow, and the same for every kernel
}

// Sizes are where lanes, chunks and packed blocks begin and end. With -short the long ones are left out.
func sizes() []int {
	if testing.Short() {
		return []int{1, 33, 321, 4097}
	}
	return []int{1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 128, 129, 255, 256, 257, 319, 320, 321, 1279, 1280, 1281,
		4095, 4096, 4097, 5119, 5120, 5121, 8191, 8192, 8193, 40_009, 100_003}
}

// data makes n values of a kind at a given offset from an aligned start.
func data(kind string, n, offset int) []float32 {
	r := rand.New(rand.NewPCG(uint64(n), uint64(len(kind))))
	x := make([]float32, n+offset)[offset:]
	for i := range x {
		switch kind {
		case "normal":
			x[i] = float32(r.NormFloat64())
		case "wide":
			x[i] = float32(math.Ldexp(r.NormFloat64(), r.IntN(200)-100))
		case "huge":
			x[i] = math.MaxFloat32 * (r.Float32()*2 - 1)
		case "subnormal":
			x[i] = math.Float32frombits(r.Uint32()&0x807fffff | uint32(r.IntN(2))<<23)
		case "few": // exact ties with thresholds and between centroids
			x[i] = float32(r.IntN(5)-2) / 2
		case "zero":
			x[i] = math.Float32frombits(r.Uint32() & (1 << 31))
		}
	}
	return x
}

var kinds = []string{"normal", "wide", "huge", "subnormal", "few", "zero"}

func same(a, b []float32) int {
	for i, v := range a {
		if math.Float32bits(v) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

func (s *suite) quantize() {
	for _, n := range sizes() {
		for ki, kind := range kinds {
			x := data(kind, n, (n+ki)%16)
			for _, levels := range []quant.Levels{quant.Ternary, quant.Quinary} {
				for rule := quant.AbsMean; rule <= quant.Stochastic; rule++ {
					for _, format := range []quant.Format{quant.Int8, quant.Bits2, quant.Base3} {
						for li, layout := range [][2]int{{n, 0}, {n, quant.PerRow}, {n, 64}, {n, 100}, {max(1, n/3), quant.PerRow}, {max(1, n/7), 5}, {1, 0}} {
							cols, group := layout[0], layout[1]
							if levels == quant.Quinary && format != quant.Int8 || group > cols || n > 10_000 && (cols < n || group != 0) || li > 1 && ki%4 != 0 {
								continue
							}
							o := quant.Options{Levels: levels, Rule: rule, Format: format, Cols: cols, Group: group, Seed: uint64(n)}
							s.quantizeCase(kind, x[:n/cols*cols], o)
						}
					}
				}
			}
		}
	}
}

func (s *suite) quantizeCase(kind string, x []float32, o quant.Options) {
	s.cases++
	o = o.WithDefaults(len(x))
	rows := len(x) / o.Cols
	var want, got quant.Tensor
	want.Resize(rows, o)
	got.Resize(rows, o)
	const guard = 0x55
	got.Codes, got.Packed = append(got.Codes, guard), append(got.Packed, guard)
	got.Codes, got.Packed = got.Codes[:len(got.Codes)-1], got.Packed[:len(got.Packed)-1]
	errWant := cpu.Backend{}.Quantize(backends.Kernel{}, &backends.Quantize{X: x, Rule: o.Rule, Seed: o.Seed, Dst: &want})
	errGot := s.b.Quantize(s.k, &backends.Quantize{X: x, Rule: o.Rule, Seed: o.Seed, Dst: &got})
	name := fmt.Sprintf("%s n=%d cols=%d group=%d %v %v %v", kind, len(x), o.Cols, o.Group, o.Levels, o.Rule, o.Format)
	if errWant != nil || errGot != nil {
		s.Fatalf("%s: %v, pure Go: %v", name, errGot, errWant)
	}
	if i := same(want.Scales, got.Scales); i >= 0 {
		s.Fatalf("%s: scale %d is %v, pure Go %v", name, i, got.Scales[i], want.Scales[i])
	}
	for i := range want.Codes {
		if want.Codes[i] != got.Codes[i] {
			s.Fatalf("%s: code %d of %v is %d, pure Go %d (scale %v)", name, i, x[i], got.Codes[i], want.Codes[i], want.Scales[0])
		}
	}
	for i := range want.Packed {
		if want.Packed[i] != got.Packed[i] {
			s.Fatalf("%s: packed byte %d is %#x, pure Go %#x", name, i, got.Packed[i], want.Packed[i])
		}
	}
	if got.Codes[:len(got.Codes)+1][len(got.Codes)] != guard || got.Packed[:len(got.Packed)+1][len(got.Packed)] != guard {
		s.Fatalf("%s: wrote behind its output", name)
	}
}

func (s *suite) constrain() {
	for _, n := range sizes() {
		for ki, kind := range kinds {
			for _, radius := range []float64{0, 1e-42, 1e-20, 0.5, 1, 100, 1e38, math.Inf(1)} {
				for _, inPlace := range []bool{false, true} {
					s.constrainCase(kind, n, (n+ki)%16, radius, inPlace)
				}
			}
		}
		s.nonFinite(n, func(x []float32) error {
			return s.b.Constrain(s.k, &backends.Constrain{X: x, Dst: x, Radius: 1})
		})
	}
}

func (s *suite) constrainCase(kind string, n, offset int, radius float64, inPlace bool) {
	s.cases++
	name := fmt.Sprintf("%s n=%d radius=%v in place=%v", kind, n, radius, inPlace)
	x, y := data(kind, n, offset), data(kind, n, offset)
	want := backends.Constrain{X: x, Dst: x, Radius: radius}
	got := backends.Constrain{X: y, Dst: y, Radius: radius}
	if !inPlace {
		want.Dst, got.Dst = make([]float32, n), make([]float32, n+1)[1:]
	}
	errWant, errGot := cpu.Backend{}.Constrain(backends.Kernel{}, &want), s.b.Constrain(s.k, &got)
	if errWant != nil || errGot != nil {
		s.Fatalf("%s: %v, pure Go: %v", name, errGot, errWant)
	}
	if got.Norm != want.Norm {
		s.Fatalf("%s: norm %v, pure Go %v", name, got.Norm, want.Norm)
	}
	if i := same(want.Dst, got.Dst); i >= 0 {
		s.Fatalf("%s: value %d is %v, pure Go %v", name, i, got.Dst[i], want.Dst[i])
	}
}

func (s *suite) reduce() {
	for _, n := range sizes() {
		for ki, kind := range kinds {
			for kj, other := range kinds {
				s.cases++
				want := backends.Reduce{X: data(kind, n, ki), Y: data(other, n, kj)}
				if s.k.Op == backends.OpNorm2 {
					want.Y = nil
				}
				got := want
				errWant, errGot := cpu.Backend{}.Reduce(s.k, &want), s.b.Reduce(s.k, &got)
				if errWant != nil || errGot != nil || got.Result != want.Result {
					s.Fatalf("%s, %s n=%d: %v (%v), pure Go %v (%v)", kind, other, n, got.Result, errGot, want.Result, errWant)
				}
			}
		}
		s.nonFinite(n, func(x []float32) error {
			a := backends.Reduce{X: x, Y: make([]float32, n)}
			return s.b.Reduce(s.k, &a)
		})
	}
}

// nonFinite puts a NaN or an infinity at both ends and in the middle; the error must name the first, and inputs stay.
func (s *suite) nonFinite(n int, call func(x []float32) error) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		for _, at := range []int{0, n / 2, n - 1} {
			s.cases++
			x := data("normal", n, 0)
			x[at], x[n-1] = bad, bad
			before := append([]float32(nil), x...)
			err := call(x)
			var e *backends.Error
			if !errors.As(err, &e) || e.Err != backends.ErrNonFinite || e.Detail != fmt.Sprintf("x[%d] = %v", at, bad) {
				s.Fatalf("n=%d, %v at %d: %v", n, bad, at, err)
			}
			if i := same(before, x); i >= 0 {
				s.Fatalf("n=%d: the input changed at %d after an error", n, i)
			}
		}
	}
}

func (s *suite) kmeans() {
	shapes := [][3]int{}
	for _, d := range []int{1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100, 129} {
		for _, k := range []int{1, 2, 3, 7, 8, 9, 16, 17, 32, 33, 70} {
			shapes = append(shapes, [3]int{k + 1 + (d*7+k)%40, d, k})
		}
	}
	shapes = append(shapes, [3]int{1, 1, 1}, [3]int{5000, 3, 40}, [3]int{9000, 16, 5}, [3]int{300, 1000, 20}, [3]int{200, 4100, 3})
	if testing.Short() {
		shapes = [][3]int{{1, 1, 1}, {3, 2, 2}, {40, 7, 9}, {70, 33, 17}}
	}
	for _, shape := range shapes {
		for _, kind := range []string{"normal", "few", "subnormal", "wide", "zero"} {
			for variant := range 8 {
				if variant >= 4 && kind != "normal" { // rows of zeros have no direction
					continue
				}
				n, d, k := shape[0], shape[1], shape[2]
				a := backends.KMeans{X: data(kind, n*d, d%16), N: n, D: d, K: k, Seed: uint64(n), MaxIter: 4, Tol: 1e-4}
				if kind == "wide" {
					for i, v := range a.X { // the scores must stay in range
						a.X[i] = float32(math.Ldexp(float64(v), -60))
					}
				}
				if variant&1 != 0 {
					a.Weights = data("few", n, 0)
					for i, w := range a.Weights {
						a.Weights[i] = float32(math.Abs(float64(w)))
					}
					a.Weights[n-1] = 0.3
				}
				switch variant {
				case 4, 5:
					a.Cosine = true
				case 6, 7:
					a.Cosine, a.Batch = variant == 7, n/3+1
				}
				if variant&2 != 0 {
					a.Initial = append([]float32(nil), a.X[:k*d]...)
				}
				s.kmeansCase(fmt.Sprintf("%s %s variant %d", kind, a.Shape(), variant), a)
			}
		}
	}
	s.cases++
	bad := backends.KMeans{X: data("normal", 600, 0), N: 100, D: 6, K: 3, MaxIter: 3}
	bad.X[77] = float32(math.NaN())
	allocate(&bad)
	if err := s.b.KMeans(context.Background(), s.k, &bad); !errors.Is(err, backends.ErrNonFinite) {
		s.Fatalf("a NaN in row 12: %v", err)
	}
}

func allocate(a *backends.KMeans) {
	a.Labels, a.Centroids, a.Counts = make([]int32, a.N), make([]float32, a.K*a.D), make([]int64, a.K)
}

func (s *suite) kmeansCase(name string, a backends.KMeans) {
	s.cases++
	want, known := s.clusterings[name]
	if !known {
		want = a
		allocate(&want)
		if err := (cpu.Backend{}).KMeans(context.Background(), backends.Kernel{}, &want); err != nil {
			s.Fatalf("%s: pure Go: %v", name, err)
		}
		s.clusterings[name] = want
	}
	got := a
	allocate(&got)
	if err := s.b.KMeans(context.Background(), s.k, &got); err != nil {
		s.Fatalf("%s: %v", name, err)
	}
	for i, l := range want.Labels {
		if got.Labels[i] != l {
			s.Fatalf("%s: row %d has label %d, pure Go %d", name, i, got.Labels[i], l)
		}
	}
	if i := same(want.Centroids, got.Centroids); i >= 0 {
		s.Fatalf("%s: centroid value %d is %v, pure Go %v", name, i, got.Centroids[i], want.Centroids[i])
	}
	if want.Inertia != got.Inertia || want.Iterations != got.Iterations || want.Converged != got.Converged {
		s.Fatalf("%s: inertia %v, %d iterations, converged %v; pure Go %v, %d, %v", name, got.Inertia, got.Iterations, got.Converged, want.Inertia, want.Iterations, want.Converged)
	}
}
