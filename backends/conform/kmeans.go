// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
)

func (s *suite) kmeans() {
	s.fastKMeans()
	shapes := [][3]int{}
	for _, d := range []int{1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100, 129} {
		for _, k := range []int{1, 2, 3, 7, 8, 9, 16, 17, 32, 33, 70} {
			shapes = append(shapes, [3]int{k + 1 + (d*7+k)%40, d, k})
		}
	}
	// Past a chunk of rows; long rows; enough centroids to be screened.
	shapes = append(shapes, [3]int{1, 1, 1}, [3]int{4097, 3, 40}, [3]int{8193, 16, 5}, [3]int{300, 1000, 20}, [3]int{200, 4100, 3}, [3]int{400, 24, 256}, [3]int{300, 64, 97}, [3]int{200, 130, 80})
	if s.o.Short {
		shapes = [][3]int{{1, 1, 1}, {3, 2, 2}, {40, 7, 9}, {70, 33, 17}, {150, 64, 100}}
	}
	for si, shape := range shapes {
		n, d, k := shape[0], shape[1], shape[2]
		for ki, kind := range kinds {
			if kind == "huge" { // the scores are out of range; rangeCase
				continue
			}
			for variant := range 8 {
				directions := kind != "zero" && kind != "subnormal" && kind != "few" // rows of zeros have none
				if (si+ki+variant)%4 != 0 || variant >= 4 && !directions {
					continue
				}
				a := backends.KMeans{X: s.data(kind, n*d), N: n, D: d, K: k, Seed: uint64(n), MaxIter: 4, Tol: 1e-4}
				if kind == "wide" {
					a.X = scaled(a.X, -60) // the scores must stay in range
				}
				if variant&1 != 0 {
					a.Weights = s.weights(n)
				}
				switch variant {
				case 4, 5:
					a.Cosine = true
				case 6, 7:
					a.Cosine, a.Batch = variant == 7, n/3+1
				}
				if variant&2 != 0 {
					a.Initial = a.X[:k*d]
				}
				s.kmeansCase(fmt.Sprintf("%s %s variant %d", kind, a.Shape(), variant), a)
			}
		}
	}
	for i, shape := range [][3]int{{700, 24, 256}, {900, 96, 70}, {1000, 160, 130}} { // rows about centres: kernels that screen leave most scores out
		n, d, k := shape[0], shape[1], shape[2]
		if s.o.Short && i > 0 {
			break
		}
		x, centres := slices.Clone(s.data("normal", n*d)), s.data("laplace", k*d)
		for p := range x {
			x[p] += 8 * centres[p/d%k*d+p%d]
		}
		for _, given := range [][]float32{nil, x[:k*d], x[d : (k+1)*d]} {
			a := backends.KMeans{X: x, N: n, D: d, K: k, Seed: uint64(n), MaxIter: 3, Initial: given}
			s.kmeansCase(fmt.Sprintf("clustered %s given=%v", a.Shape(), given != nil), a)
		}
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1)), 3e38} { // the last is finite, and out of range
		x := slices.Clone(s.data("normal", 600))
		x[77], x[200] = bad, bad
		s.kmeansCase(fmt.Sprintf("normal with %v at 77", bad), backends.KMeans{X: x, N: 100, D: 6, K: 3, MaxIter: 3})
	}
}

// fastKMeans are the cases of kernels whose labels are not canonical.
func (s *suite) fastKMeans() {
	if len(s.fast) == 0 {
		return
	}
	shapes := [][3]int{{200, 3, 4}, {300, 17, 33}, {500, 64, 100}}
	if !s.o.Short {
		shapes = append(shapes, [3]int{700, 130, 80}, [3]int{1000, 96, 300}, [3]int{4097, 8, 256})
	}
	for i, shape := range shapes {
		n, d, k := shape[0], shape[1], shape[2]
		for _, kind := range []string{"normal", "uniform", "laplace", "few"} {
			a := backends.KMeans{X: s.data(kind, n*d), N: n, D: d, K: k, MaxIter: 1 + i%2}
			a.Initial = a.X[:k*d]
			for _, f := range s.fast {
				s.one(f, kind+" "+a.Shape(), func(c *call) { nearly(c, f, a) })
			}
		}
	}
}

// nearly holds the labels of a kernel that scores in 16-bit floats against the rounding that those have: the score x′·c′ − ½‖c′‖² of a row's label is less than the best by at most twice
// 2^-9·‖x′‖·max‖c′‖ + 2^-16·max ½‖c′‖². The bound must say something: some row has scores further apart.
func nearly(c *call, f *arm, a backends.KMeans) {
	a.X, a.Initial = input(c, a.X), input(c, a.Initial)
	a.Labels, a.Centroids, a.Counts = output[int32](c, a.N), output[float32](c, a.K*a.D), output[int64](c, a.K)
	if err := c.Backend.KMeans(context.Background(), c.Kernel, &a); err != nil {
		c.wrong("%v", err)
		return
	}
	mean := make([]float64, a.D)
	for i, v := range a.X {
		mean[i%a.D] += float64(v) / float64(a.N)
	}
	length := func(row []float32) float64 {
		sum := 0.0
		for j, v := range row {
			sum += (float64(v) - mean[j]) * (float64(v) - mean[j])
		}
		return sum
	}
	reach := 0.0 // max‖c′‖²
	for j := range a.K {
		reach = max(reach, length(a.Centroids[j*a.D:][:a.D]))
	}
	counts := make([]int64, a.K)
	for i := range a.N {
		x, label := a.X[i*a.D:][:a.D], int(a.Labels[i])
		if label < 0 || label >= a.K {
			c.wrong("row %d has label %d", i, label)
			return
		}
		counts[label]++
		best, worst, own := math.Inf(-1), math.Inf(1), 0.0
		for j := range a.K {
			t := a.Centroids[j*a.D:][:a.D]
			score := -length(t) / 2
			for p := range x {
				score += (float64(x[p]) - mean[p]) * (float64(t[p]) - mean[p])
			}
			if best, worst = max(best, score), min(worst, score); j == label {
				own = score
			}
		}
		bound := 2 * (0x1p-9*math.Sqrt(length(x)*reach) + 0x1p-16*reach/2)
		if best-own > bound {
			c.wrong("row %d has a label with a score %.3g below the best, the bound is %.3g", i, best-own, bound)
		}
		f.telling = f.telling || best-worst > bound
	}
	if !slices.Equal(counts, a.Counts) {
		c.wrong("the counts are not those of the labels")
	}
}

// weights are 0, ½ and 1, and one that no sum of halves is.
func (s *suite) weights(n int) []float32 {
	w := slices.Clone(s.data("few", n))
	for i, v := range w {
		w[i] = float32(math.Abs(float64(v)))
	}
	w[n-1] = 0.3
	return w
}

func scaled(x []float32, power int) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(math.Ldexp(float64(v), power))
	}
	return y
}

func (s *suite) kmeansCase(name string, a backends.KMeans) {
	s.compare(name, func(c *call) {
		a := a
		a.X, a.Weights, a.Initial = input(c, a.X), input(c, a.Weights), input(c, a.Initial)
		a.Labels, a.Centroids, a.Counts = output[int32](c, a.N), output[float32](c, a.K*a.D), output[int64](c, a.K)
		if c.failed(c.Backend.KMeans(context.Background(), c.Kernel, &a)) {
			return
		}
		record(&c.out, "label", a.Labels)
		record(&c.out, "centroid value", a.Centroids)
		record(&c.out, "count", a.Counts)
		record(&c.out, "inertia", []float64{a.Inertia})
		record(&c.out, "iterations, converged", []int32{int32(a.Iterations), int32(truth(a.Converged))})
	})
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *suite) randomKMeans(d *draws) {
	if d.upTo(3) == 0 && slices.ContainsFunc(s.arms, func(a *arm) bool { return a.Kernel.Many }) {
		s.randomProblems(d)
		return
	}
	rows, cols := d.matrix()
	if rows*cols > 20_000 { // pure Go is slow
		rows = max(1, 20_000/cols)
	}
	kind, x := d.values(rows * cols)
	a := backends.KMeans{X: x, N: rows, D: cols, K: 1 + d.upTo(min(rows, 150)-1), Seed: uint64(d.upTo(1 << 15)), MaxIter: 1 + d.upTo(3), Cosine: d.upTo(3) == 0}
	if d.upTo(1) == 0 {
		a.Initial = slices.Clone(x[:a.K*cols])
	}
	if d.upTo(2) == 0 {
		a.Weights = s.weights(rows)
	}
	if d.upTo(3) == 0 {
		a.Batch = 1 + d.upTo(rows-1)
	}
	if d.upTo(1) == 0 {
		a.Tol = 1e-4
	}
	if a.Check() != nil { // values that are not finite may be among the given centroids
		a.Initial = nil
	}
	s.kmeansCase(fmt.Sprintf("%s %s cosine=%v batch=%d given=%v weights=%v iterations=%d", kind, a.Shape(), a.Cosine, a.Batch, a.Initial != nil, a.Weights != nil, a.MaxIter), a)
}
