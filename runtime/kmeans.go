// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// KMeansOptions says how KMeans clusters. K is required.
type KMeansOptions struct {
	K         int
	MaxIter   int       // iterations, or mini-batches, at most; 0: 300
	Tol       float64   // stop when the centroids' squared movement is below Tol times the mean variance of a column; 0: only when no label changes
	Seed      uint64    // of k-means++
	Centroids []float32 // K rows to start from instead of k-means++
	Weights   []float32 // one a point, finite and >= 0; nil: all 1
	Distance  Distance  // L2 unless said
	Batch     int       // points of a mini-batch, drawn by Seed; 0: every iteration takes all points
	// SkipNonFinite leaves points with a NaN or an infinity out, instead of refusing them: they get label −1 and count nowhere, and the others are clustered as if they were all
	// there is, bit for bit. When there are such points the others are copied, with their weights:
	// 4·n·(dim+1) bytes more. An error that names a row counts the others alone.
	SkipNonFinite bool
	// Fast lets kernels run that label points by scores of fewer bits, if the runtime has any (WithFastNumerics, and a GPU): a point may then go to a centroid that is farther than the nearest by a part in some
	// hundreds. Everything else is computed as ever, for these labels.
	Fast bool
	// Progress is called after each iteration with the number of points that changed their cluster. Points that are mapped or a Buffer's are held until the call ends: Progress must not make
	// calls on them.
	Progress func(iteration int, changed int64)
}

// Distance says how far a point is from a centroid.
type Distance uint8

// The distances.
const (
	L2     Distance = iota // ‖point − centroid‖²
	Cosine                 // 2·(1 − cos): points count by their direction alone, and centroids have length 1; a point that is 0 is ErrArgument
)

// Clustering is the result of KMeans.
type Clustering struct {
	K, Dim     int
	Labels     []int32   // the cluster of each point; −1 for one that was left out
	Centroids  []float32 // K rows of Dim values
	Counts     []int64   // points of each cluster
	Inertia    float64   // Σ weight·‖point − centroid‖²
	Iterations int
	Converged  bool // stopped by Tol or because no label changed
	Skipped    int  // points left out by SkipNonFinite
}

// KMeans clusters len(points)/dim points of dim values by Lloyd's algorithm, from k-means++ or given centroids, under squared Euclidean distance or cosine. dst is used
// again, or allocated when nil; it is returned. An empty cluster takes the point farthest from its centroid.
//
// With Batch every iteration labels a sample of the points, drawn with replacement, and each centroid is the mean of all that it was ever given (Sculley, WWW 2010): a
// fraction of the work for nearly the same inertia. It stops when ten batches in a row move the centroids less than Tol says. Empty clusters stay where they are.
//
// Labels, inertia and counts belong to the centroids returned. With Tol 0 and clusters so tight that points differ by less than scores of 32 bits can tell (some 2^-12 of their distance from the mean of all), labels may
// change until MaxIter: a Tol of 1e-4 ends that. After an error dst's fields are as they were; what its slices hold may have been written over, except after ErrArgument, ErrShape, ErrRange and ErrNonFinite. Errors: ErrArgument, ErrShape, ErrNonFinite naming row and column (see SkipNonFinite), ErrRange for
// values whose scores could overflow, or ctx's error within one iteration of its end. Deterministic for a seed: the same bits on every kernel.
func (rt *Runtime) KMeans(ctx context.Context, dst *Clustering, points []float32, dim int, o KMeansOptions) (*Clustering, error) {
	return rt.kmeans(given(ctx), 0, true, dst, slice(points), dim, o)
}

// kmeans clusters without the arms of a bit mask, and leaves points out when it may. stay: the points may be on a device and stay there, else they are at home. The host reads weights and centroids by itself.
func (rt *Runtime) kmeans(ctx context.Context, without uint64, stay bool, dst *Clustering, v vector, dim int, o KMeansOptions) (*Clustering, error) {
	if err := rt.home(ctx, o.Weights, o.Centroids); err != nil {
		return dst, err
	}
	dst, err := rt.kmeansAll(ctx, without, stay, dst, v, dim, o)
	if !o.SkipNonFinite || !errors.Is(err, ErrNonFinite) {
		return dst, err
	}
	if e := v.home(ctx, rt); e != nil {
		return dst, e
	}
	points := v.values
	n := len(points) / dim
	good := make([]float32, 0, len(points))
	weights := o.Weights
	if weights != nil {
		weights = make([]float32, 0, n)
	}
	for i := range n {
		if !finite(points[i*dim:][:dim]) {
			continue
		}
		good = append(good, points[i*dim:][:dim]...)
		if weights != nil {
			weights = append(weights, o.Weights[i])
		}
	}
	left := len(good) / dim
	if left == n {
		return dst, err // it was something else
	}
	if left < o.K {
		return dst, backends.Fail(ErrArgument, backends.OpKMeans, fmt.Sprintf("%dx%d k=%d", n, dim, o.K), "only %d points have no NaN and no infinity", left)
	}
	o.Weights = weights
	if dst, err = rt.kmeansAll(ctx, without, false, dst, slice(good), dim, o); err != nil {
		return dst, fmt.Errorf("rows counted without the %d that were left out: %w", n-left, err)
	}
	dst.Skipped = n - left
	dst.Labels = append(dst.Labels, make([]int32, dst.Skipped)...)
	for i := n - 1; i >= 0; i-- { // from behind: no label moves down
		if !finite(points[i*dim:][:dim]) {
			dst.Labels[i] = -1
			continue
		}
		left--
		dst.Labels[i] = dst.Labels[left]
	}
	return dst, nil
}

func finite(x []float32) bool {
	for _, v := range x {
		if v-v != 0 {
			return false
		}
	}
	return true
}

func iterations(a *backends.KMeans, v dispatch.Variant) (int, dispatch.Variant) {
	if a.Streamed { // that says more of the bus than of the kernel: nothing is learned
		v |= dispatch.Beside
	}
	return a.Iterations, v
}

func (rt *Runtime) kmeansAll(ctx context.Context, without uint64, stay bool, dst *Clustering, v vector, dim int, o KMeansOptions) (*Clustering, error) {
	dst, a, err := fit(dst, v.values, dim, o)
	if err != nil {
		return dst, err
	}
	s := dispatch.KMeans(a.N, a.D, a.K)
	s.Fast = o.Fast
	if a.Batch > 0 {
		s.N = int64(a.Batch)
	}
	if a.Batch == 0 && rt.capacity > 0 && 4*int64(len(a.X)) > rt.capacity {
		s.Variant |= dispatch.Streamed
	}
	var p *placed
	if stay {
		p = rt.placing().with(v, &a.XAt, true, false).with(slice(a.Weights), &a.WeightsAt, true, false).output(float64(4*a.N + 4*a.K*a.D + 8*a.K))
	}
	err = runPlaced(ctx, rt, without, p, &s, a, func(m *arm, a *backends.KMeans) error {
		a.Streamed = false
		return m.backend.KMeans(ctx, m.kernel, a)
	}, iterations)
	if err == nil {
		dst.take(a)
	}
	return dst, err
}

// fit is the call of an op for a clustering, in dst's memory where that is large enough. dst is allocated when nil.
func fit(dst *Clustering, points []float32, dim int, o KMeansOptions) (*Clustering, *backends.KMeans, error) {
	if o.MaxIter == 0 {
		o.MaxIter = 300 // scikit-learn's default
	}
	a := &backends.KMeans{X: points, D: dim, K: o.K, Weights: o.Weights, Initial: o.Centroids, Seed: o.Seed, Cosine: o.Distance == Cosine, Batch: o.Batch, MaxIter: o.MaxIter, Tol: o.Tol, Progress: o.Progress}
	if o.Distance > Cosine {
		return dst, nil, backends.Fail(ErrArgument, backends.OpKMeans, fmt.Sprint(len(points)), "distance = %d is not known", o.Distance)
	}
	if dim > 0 {
		a.N = len(points) / dim
		if len(points)%dim != 0 {
			return dst, nil, backends.Fail(ErrShape, backends.OpKMeans, fmt.Sprint(len(points)), "%d values are not rows of %d", len(points), dim)
		}
	}
	if err := a.Check(); err != nil {
		return dst, nil, err
	}
	if dst == nil {
		dst = new(Clustering)
	}
	a.Labels, a.Centroids, a.Counts = sized(dst.Labels, a.N), sized(dst.Centroids, a.K*a.D), sized(dst.Counts, a.K)
	return dst, a, nil
}

// take makes a fit's result the clustering.
func (c *Clustering) take(a *backends.KMeans) {
	*c = Clustering{K: a.K, Dim: a.D, Labels: a.Labels, Centroids: a.Centroids, Counts: a.Counts, Inertia: a.Inertia, Iterations: a.Iterations, Converged: a.Converged}
}

func sized[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	return s[:n]
}
