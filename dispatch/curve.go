// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"

	"github.com/setun-compute/setun/backends"
)

// Point is a time at a size that thresholds are counted in: values; points of 64 values with 64 clusters for kmeans; rows and columns of square matrices for matmul.
type Point struct {
	Size    int64   `json:"size"`
	Nanos   float64 `json:"ns"`
	Spread  float64 `json:"spread"`  // relative standard deviation of a call
	Samples int     `json:"samples"` // that it rests on; 0: prior knowledge
}

// Curve returns what an arm is predicted to take for operands in its memory, at eight sizes an octave from one size to another.
func (r *Router) Curve(op backends.Op, arm int, from, to int64) []Point {
	var list []Point
	for i := 0; ; i++ {
		n := int64(math.Round(float64(from) * math.Exp2(float64(i)/sweepSteps)))
		if n > to {
			return list
		}
		if len(list) == 0 || n > list[len(list)-1].Size {
			list = append(list, r.point(op, arm, n))
		}
	}
}

// Measured returns what was measured of an arm, a point for each size class.
func (r *Router) Measured(op backends.Op, arm int) []Point {
	var list []Point
	cells, _ := r.models[op][arm].measured(0)
	for _, c := range cells {
		work := math.Exp2(float64(c.Class / perOctave))
		if c.Class%perOctave != 0 {
			work *= 1.5 // see octaves
		}
		s := canonical(op, 1<<10)
		n := 1 << 10 * work / s.Work()
		if op == backends.OpMatMul {
			n = math.Cbrt(work)
		}
		if op == backends.OpTernary {
			n = math.Sqrt(work)
		}
		if p := r.point(op, arm, int64(math.Round(n))); c.Samples > 0 && n >= 1 {
			list = append(list, p)
		}
	}
	return list
}

func (r *Router) point(op backends.Op, arm int, n int64) Point {
	s := canonical(op, n)
	f := s.features()
	nanos, spread := r.expects(&s, arm, &f)
	return Point{n, nanos, spread, lookup(&r.models[op][arm], keyOf(&s)).samples}
}

// Coef returns the coefficients of an arm's roofline.
func (r *Router) Coef(op backends.Op, arm int) Coef { return r.models[op][arm].Coef }

// Model returns the model of an arm. The caller must not change its cells.
func (r *Router) Model(op backends.Op, arm int) Model { return r.models[op][arm] }

// Predict returns what an arm is predicted to take for a shape whose operands are in its memory.
func (r *Router) Predict(s *Shape, arm int) Prediction {
	f := s.features()
	nanos, spread := r.expects(s, arm, &f)
	return Prediction{nanos, nanos * spread, lookup(&r.models[s.Op][arm], keyOf(s)).samples}
}

// Open returns a bit mask of the arms that the policy lets run a shape.
func (r *Router) Open(s *Shape) uint64 {
	mask := r.allowed[s.Op]
	if !s.Fast {
		mask &^= r.fast[s.Op]
	}
	return mask
}
