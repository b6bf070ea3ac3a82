// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"image/color"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// The plane is that of the covariance's eigenvectors.
func TestPlaneAgainstPrincipalComponents(t *testing.T) {
	for _, dim := range []int{2, 5, 30} {
		const n = 2000
		r := rand.New(rand.NewPCG(5, uint64(dim)))
		points := make([]float32, n*dim)
		wide := mat.NewDense(n, dim, nil)
		for i := range points {
			points[i] = float32(r.NormFloat64()*math.Pow(0.8, float64(i%dim)) + 3)
			if i%dim > 0 {
				points[i] += 0.3 * points[i-1]
			}
			wide.Set(i/dim, i%dim, float64(points[i]))
		}
		p, err := newPlane(context.Background(), points, dim)
		if err != nil {
			t.Fatal(err)
		}
		var pc stat.PC
		if !pc.PrincipalComponents(wide, nil) {
			t.Fatal("no principal components")
		}
		var vectors mat.Dense
		pc.VectorsTo(&vectors)
		variances := pc.VarsTo(nil)
		total := 0.0
		for _, v := range variances {
			total += v
		}
		for a := range 2 {
			cosine := math.Abs(mat.Dot(p.axes.ColView(a), vectors.ColView(a)))
			if share := variances[a] / total; math.Abs(p.share[a]-share) > 1e-6 || cosine < 1-1e-4 {
				t.Errorf("dim %d, component %d: share %v, want %v; cosine with the eigenvector %v", dim, a, p.share[a], share, cosine)
			}
		}
	}
}

func TestSample(t *testing.T) {
	if got := sample(5, 3, 1); !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
		t.Errorf("5 rows: %v", got)
	}
	for _, c := range []struct{ rows, dim, want int }{{20_000, 64, 20_000}, {1_234_567, 64, 20_000}, {100_000, 4096, 4096}, {10, 1 << 30, 2}} {
		got := sample(c.rows, c.dim, 9)
		if len(got) != c.want || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != c.want || got[0] < 0 || got[c.want-1] >= c.rows {
			t.Errorf("%d rows of %d: %d of them, from %d to %d", c.rows, c.dim, len(got), got[0], got[len(got)-1])
		}
		if !slices.Equal(got, sample(c.rows, c.dim, 9)) {
			t.Errorf("%d rows of %d: another sample from the same seed", c.rows, c.dim)
		}
	}
	if slices.Equal(sample(1_000_000, 4, 1), sample(1_000_000, 4, 2)) {
		t.Error("two seeds, one sample")
	}
}

func TestColours(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for _, k := range []int{1, 2, 9, 24, 256} {
		centres := make(plotter.XYs, k)
		for i := range centres {
			centres[i] = plotter.XY{X: r.NormFloat64(), Y: r.NormFloat64()}
		}
		list := colours(centres)
		distinct := map[color.NRGBA]bool{}
		for _, c := range list {
			distinct[c] = true
		}
		if len(list) != k || len(distinct) != min(k, shades) {
			t.Errorf("%d centroids have %d colours", len(list), len(distinct))
		}
		same := 0 // centroids whose nearest other has their colour
		for i, c := range centres {
			nearest, at := math.Inf(1), i
			for j, d := range centres {
				if distance := math.Hypot(c.X-d.X, c.Y-d.Y); j != i && distance < nearest {
					nearest, at = distance, j
				}
			}
			if at != i && list[i] == list[at] {
				same++
			}
		}
		if same > 0 {
			t.Errorf("%d of %d centroids look like their nearest neighbour", same, k)
		}
	}
	// Oklab's own test values: white, and red.
	if got := (lab{1, 0, 0}).rgb(); got != (color.NRGBA{255, 255, 255, 255}) {
		t.Errorf("white is %v", got)
	}
	if got := (lab{0.6279554, 0.2248631, 0.1258463}).rgb(); got != (color.NRGBA{255, 0, 0, 255}) {
		t.Errorf("red is %v", got)
	}
}

func TestSpread(t *testing.T) {
	points := []vg.Point{{X: 0, Y: 0}, {X: 0, Y: 0}, {X: 1, Y: 0}, {X: 500, Y: 0}}
	spread(points, 20)
	for j := range points {
		for i := range j {
			d := points[j].Sub(points[i])
			if length := math.Hypot(float64(d.X), float64(d.Y)); length < 19.9 {
				t.Errorf("%d and %d are %v apart", i, j, length)
			}
		}
	}
	if points[3] != (vg.Point{X: 500, Y: 0}) {
		t.Errorf("a point without neighbours moved to %v", points[3])
	}
}
