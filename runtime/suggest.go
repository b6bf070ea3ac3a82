// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"fmt"
	"math"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/suggest"
)

// SuggestOptions says how SuggestK searches. The zero value is usual.
type SuggestOptions struct {
	MaxK    int    // the largest k that is looked at; 0: √n, at most 64
	MaxIter int    // 2-means iterations over the rows of a cluster; 0: 10
	Seed    uint64 // of k-means++ and of the rows that are sampled
}

// Suggestion is what SuggestK found: k, the reason in one sentence, and the evidence. Its String prints a table.
type Suggestion = suggest.Suggestion

// Candidate is the evidence for one k.
type Candidate = suggest.Candidate

// Vote is the k that one criterion chose.
type Vote = suggest.Vote

// SuggestK says how many clusters len(points)/dim points of dim values have, k = 1 when they show no structure. One bisecting k-means run splits the
// cluster whose split lowers the inertia most, by this runtime's KMeans with K = 2, until there are MaxK. Five criteria judge every k on the way and
// vote: BIC, Caliński-Harabasz, simplified silhouette, the knee of the inertia, and whether rows that were held out of a split confirm it.
// docs/suggest.md has the formulas, their sources and the rule.
//
// The run reads each row some MaxIter·log₂(k) times. Beside KMeans itself it takes the memory of the largest cluster's rows, 12 bytes a point, 8 MiB for silhouettes
// (8 KiB·MaxK from MaxK = 1024), and 32·MaxK·dim bytes. Weights are not supported.
//
// Errors: those of KMeans (ErrArgument, ErrShape, ErrNonFinite naming row and column, ErrRange), ErrArgument for a MaxK beyond the points,
// or ctx's error within one iteration of its end. Deterministic for a seed: the same bits on every kernel.
func (rt *Runtime) SuggestK(ctx context.Context, points []float32, dim int, o SuggestOptions) (*Suggestion, error) {
	ctx = given(ctx)
	n, err := rt.checkPoints(ctx, "suggest k", points, dim)
	if err != nil {
		return nil, err
	}
	if o.MaxK == 0 {
		o.MaxK = suggest.DefaultMaxK(n)
	}
	if o.MaxIter == 0 {
		o.MaxIter = 10
	}
	switch {
	case o.MaxK < 1 || o.MaxK > n:
		return nil, failSuggest("suggest k", n, dim, ErrArgument, "max k = %d is not within 1..%d points", o.MaxK, n)
	case o.MaxIter < 1:
		return nil, failSuggest("suggest k", n, dim, ErrArgument, "max iterations = %d is not positive", o.MaxIter)
	}
	var c *Clustering // used again by every split
	bisect := func(ctx context.Context, rows, initial []float32, seed uint64, maxIter int) (suggest.Halves, error) {
		var err error
		if c, err = rt.KMeans(ctx, c, rows, dim, KMeansOptions{K: 2, MaxIter: maxIter, Seed: seed, Centroids: initial}); err != nil {
			return suggest.Halves{}, err
		}
		return suggest.Halves{Labels: c.Labels, Centroids: c.Centroids, Inertia: c.Inertia, Iterations: c.Iterations}, nil
	}
	return suggest.Run(ctx, points, dim, suggest.Options{MaxK: o.MaxK, MaxIter: o.MaxIter, Seed: o.Seed}, bisect)
}

// Precision is a way to store the residuals of a cluster; its Bits are those of a value.
type Precision = suggest.Precision

// The precisions that SuggestPrecision chooses from.
const (
	PrecisionTernary = suggest.Ternary // quant.Ternary by the least-squares rule: 1.585 bits
	PrecisionQuinary = suggest.Quinary // quant.Quinary by the least-squares rule: 2.322 bits
	PrecisionInt8    = suggest.Int8    // 255 even steps up to the largest magnitude
	PrecisionFloat32 = suggest.Float32 // as it is
)

// PrecisionOptions sets the budget of SuggestPrecision: one of the two is above 0.
type PrecisionOptions struct {
	MaxError float64 // mean squared quantization error over the variance of the points: the fewest bits within it
	MaxBits  float64 // mean bits of a value, at least ternary's 1.585: the least error within it
}

// PrecisionPlan is what SuggestPrecision chose, with the evidence. Its String prints a table.
type PrecisionPlan = suggest.Plan

// ClusterPrecision is the choice for one cluster.
type ClusterPrecision = suggest.ClusterPrecision

// SuggestPrecision chooses for each cluster of c, a clustering of these points, how to store its residuals point − centroid: the wider they spread, the
// more bits. The expected error of a cluster of root mean square σ is 0.190σ² for ternary and 0.0822σ² for quinary codes (Gaussian residuals),
// (largest/127)²/12 for int8, 0 for float32.
//
// The budget is kept in expectation, to one part in 2^40. The sum that is minimised is above PrecisionPlan.Bound by less than one change of one cluster.
// Scales (4 bytes a cluster), centroids and labels come on top of the bits.
//
// Errors: ErrArgument for options or a size budget that cannot be met, ErrShape for a clustering of other points, ErrNonFinite naming row and column, or ctx's
// error. Deterministic: the same bits on every machine.
func (rt *Runtime) SuggestPrecision(ctx context.Context, points []float32, dim int, c *Clustering, o PrecisionOptions) (*PrecisionPlan, error) {
	const op = "suggest precision"
	ctx = given(ctx)
	n, err := rt.checkPoints(ctx, op, points, dim)
	if err != nil {
		return nil, err
	}
	fail := func(sentinel error, detail string, args ...any) error {
		return failSuggest(op, n, dim, sentinel, detail, args...)
	}
	switch {
	case !(o.MaxError >= 0) || !(o.MaxBits >= 0) || math.IsInf(o.MaxError, 1) || math.IsInf(o.MaxBits, 1):
		return nil, fail(ErrArgument, "max error = %v and max bits = %v: a budget is negative or not finite", o.MaxError, o.MaxBits)
	case (o.MaxError > 0) == (o.MaxBits > 0):
		return nil, fail(ErrArgument, "max error = %v and max bits = %v: one of them must be above 0", o.MaxError, o.MaxBits)
	case c == nil:
		return nil, fail(ErrArgument, "there is no clustering")
	case c.Dim != dim || c.K < 1 || len(c.Centroids)/dim != c.K || len(c.Centroids)%dim != 0:
		return nil, fail(ErrShape, "the clustering has %d centroids of %d values in %d", c.K, c.Dim, len(c.Centroids))
	case len(c.Labels) != n:
		return nil, fail(ErrShape, "the clustering has %d labels", len(c.Labels))
	}
	for i, l := range c.Labels {
		if l < 0 || int(l) >= c.K {
			return nil, fail(ErrArgument, "label %d = %d is not within 0..%d", i, l, c.K-1)
		}
	}
	for i, v := range c.Centroids {
		if v-v != 0 {
			return nil, fail(ErrNonFinite, "centroid %d, column %d = %v", i/dim, i%dim, v)
		}
	}
	return suggest.Allocate(ctx, points, dim, c.Labels, c.Centroids, o.MaxError, o.MaxBits)
}

// checkPoints returns how many rows of dim values points are.
func (rt *Runtime) checkPoints(ctx context.Context, op string, points []float32, dim int) (int, error) {
	if err := rt.home(ctx, points); err != nil {
		return 0, err
	}
	switch {
	case rt.closed.Load():
		return 0, failSuggest(op, 0, dim, ErrClosed, "Close was called")
	case dim < 1:
		return 0, failSuggest(op, 0, dim, ErrArgument, "dimension = %d is not positive", dim)
	case len(points) == 0:
		return 0, failSuggest(op, 0, dim, ErrArgument, "there are no points")
	case len(points)%dim != 0:
		return 0, failSuggest(op, len(points)/dim, dim, ErrShape, "%d values are not rows of %d", len(points), dim)
	case len(points)/dim > math.MaxInt32:
		return 0, failSuggest(op, len(points)/dim, dim, ErrShape, "more than %d points", math.MaxInt32)
	}
	return len(points) / dim, nil
}

func failSuggest(op string, n, dim int, sentinel error, detail string, args ...any) error {
	return &backends.Error{Op: op, Shape: fmt.Sprintf("%dx%d", n, dim), Detail: fmt.Sprintf(detail, args...), Err: sentinel}
}
