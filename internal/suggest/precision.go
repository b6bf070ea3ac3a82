// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"context"
	"fmt"
	"math"

	"github.com/setun-compute/setun/backends"
)

// Precision is a way to store the residuals of a cluster, point − centroid.
type Precision uint8

// The precisions, in rising order of bits.
const (
	Ternary Precision = iota // {-1, 0, 1}·s with the least-squares scale: log₂3 = 1.585 bits
	Quinary                  // {-1, -½, 0, ½, 1}·s with the least-squares scale: log₂5 = 2.322 bits
	Int8                     // 255 even steps up to the largest magnitude: 8 bits
	Float32                  // as it is: 32 bits
	precisions
)

// String returns "ternary", "quinary", "int8" or "float32".
func (p Precision) String() string {
	return [...]string{"ternary", "quinary", "int8", "float32", "unknown precision"}[min(p, precisions)]
}

// MarshalText gives JSON the name.
func (p Precision) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Bits returns the bits of a value, without scales and centroids.
func (p Precision) Bits() float64 {
	return [...]float64{1.584962500721156, 2.321928094887362, 8, 32, 0}[min(p, precisions)]
}

// Mean squared errors of the best three and five evenly spaced levels for a Gaussian of variance 1: the fixed point of "codes by the nearest level,
// scale by least squares", which the rule least-squares of quantize iterates. They are the rows N = 3 and N = 5 of table II in Max, Quantizing for
// minimum distortion (1960).
const (
	ternaryError = 0.19017403924790166
	quinaryError = 0.0821776605968596
)

// expected is the error model: the mean squared error of a value at precision p, in a cluster with this root mean square and largest magnitude of residuals.
func (p Precision) expected(spread, largest float64) float64 {
	switch p {
	case Ternary:
		return ternaryError * spread * spread
	case Quinary:
		return quinaryError * spread * spread
	case Int8:
		step := largest / 127
		return step * step / 12 // of a rounding error uniform in a step
	}
	return 0
}

// ClusterPrecision is the choice for one cluster.
type ClusterPrecision struct {
	Cluster   int       `json:"cluster"`
	Points    int       `json:"points"`
	Spread    float64   `json:"spread"`  // root mean square of the residuals
	Largest   float64   `json:"largest"` // greatest magnitude of a residual
	Precision Precision `json:"precision"`
	Bits      float64   `json:"bits"`  // of a value
	Error     float64   `json:"error"` // expected mean squared error of a value
}

// Plan gives each cluster a precision. Errors are relative: mean squared error of a value over the variance of the points about their mean.
type Plan struct {
	Points   int                `json:"points"`
	Dim      int                `json:"dim"`
	Bits     float64            `json:"bits"`                // mean of a value; scales, centroids and labels come on top
	Error    float64            `json:"error"`               // expected
	Bound    float64            `json:"bound"`               // what no choice can be below: of Bits under MaxError, of Error under MaxBits
	MaxError float64            `json:"max_error,omitempty"` // the budget asked for
	MaxBits  float64            `json:"max_bits,omitempty"`
	Variance float64            `json:"variance"` // mean squared distance of a value from its column's mean
	Clusters []ClusterPrecision `json:"clusters"`
}

// Allocate chooses for each cluster under a budget: one of maxError and maxBits is above 0. labels are within centroids. It returns ErrNonFinite naming row and
// column, ErrArgument for a size budget that even ternary exceeds, or ctx's error.
func Allocate(ctx context.Context, points []float32, dim int, labels []int32, centroids []float32, maxError, maxBits float64) (*Plan, error) {
	all, err := total(ctx, "suggest precision", points, dim)
	if err != nil {
		return nil, err
	}
	n := float64(len(points))
	p := &Plan{Points: len(labels), Dim: dim, MaxError: maxError, MaxBits: maxBits, Variance: all.sse / n}
	if p.Clusters, err = residuals(ctx, points, dim, labels, centroids); err != nil {
		return nil, err
	}
	options := make([][]option, len(p.Clusters))
	for i := range p.Clusters {
		c := &p.Clusters[i]
		values := float64(c.Points) * float64(dim)
		for q := range precisions {
			o := option{limited: float64(values * q.expected(c.Spread, c.Largest)), minimised: float64(values * q.Bits()), precision: q}
			if maxBits > 0 {
				o.limited, o.minimised = o.minimised, o.limited
			}
			options[i] = append(options[i], o)
		}
	}
	limit := maxError * all.sse
	if maxBits > 0 {
		limit = maxBits * n
		if limit < n*Ternary.Bits() {
			return nil, &backends.Error{Op: "suggest precision", Shape: fmt.Sprintf("%dx%d", p.Points, dim), Err: backends.ErrArgument,
				Detail: fmt.Sprintf("max bits = %v is below the %.3f of ternary", maxBits, Ternary.Bits())}
		}
	}
	chosen, bound := choose(options, limit)
	var bits, sum float64
	for i := range p.Clusters {
		c := &p.Clusters[i]
		c.Precision = options[i][chosen[i]].precision
		c.Bits, c.Error = c.Precision.Bits(), c.Precision.expected(c.Spread, c.Largest)
		bits += float64(float64(c.Points) * c.Bits)
		sum += float64(float64(c.Points) * c.Error)
	}
	rows := float64(p.Points)
	p.Bits = bits / rows
	if p.Variance > 0 {
		p.Error = sum / rows / p.Variance
	}
	switch {
	case maxError > 0:
		p.Bound = bound / n
	case all.sse > 0:
		p.Bound = bound / all.sse
	}
	return p, nil
}

// residuals measures point − centroid for each cluster.
func residuals(ctx context.Context, points []float32, dim int, labels []int32, centroids []float32) ([]ClusterPrecision, error) {
	clusters := make([]ClusterPrecision, len(centroids)/dim)
	for i := range clusters {
		clusters[i].Cluster = i
	}
	for i, l := range labels {
		if i%checkEvery == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		c, near, square := &clusters[l], centroids[int(l)*dim:][:dim], 0.0
		for j, v := range points[i*dim:][:dim] {
			t := float64(v) - float64(near[j])
			square += float64(t * t)
			c.Largest = max(c.Largest, math.Abs(t))
		}
		c.Points++
		c.Spread += square
	}
	for i := range clusters {
		if c := &clusters[i]; c.Points > 0 {
			c.Spread = math.Sqrt(c.Spread / (float64(c.Points) * float64(dim)))
		}
	}
	return clusters, nil
}
