// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// gathered clusters a list in calls that take many problems, if that is expected to be faster than the problems side by side. Otherwise, or when no arm could do it, it says so: then nothing
// has been done.
func (rt *Runtime) gathered(ctx context.Context, dst []*Clustering, problems [][]float32, dim int, o KMeansOptions) (done bool, err error) {
	if rt.gathers == 0 || len(problems) < 2 || o.Batch > 0 || dim < 1 || o.K < 1 {
		return false, nil
	}
	s, wins := rt.gathering(problems, dim, o.K)
	if !wins {
		return false, nil
	}
	if err := rt.home(ctx, append([][]float32{o.Centroids}, problems...)...); err != nil {
		return false, err
	}
	results, list := make([]*Clustering, len(problems)), &backends.KMeansMany{Fits: make([]*backends.KMeans, len(problems)), Failed: -1}
	for i, x := range problems {
		if results[i], list.Fits[i], err = fit(dst[i], x, dim, o); err != nil {
			return false, fmt.Errorf("problem %d: %w", i, err)
		}
	}
	err = runPlaced(ctx, rt, ^rt.gathers, nil, &s, list, func(m *arm, list *backends.KMeansMany) error {
		return m.backend.(backends.Together).KMeansMany(ctx, m.kernel, list)
	}, iterationsOfAll)
	switch {
	case err == nil:
		for i, c := range results {
			c.take(list.Fits[i])
			dst[i] = c
		}
		return true, nil
	case o.SkipNonFinite && errors.Is(err, ErrNonFinite):
		return false, nil
	case errors.Is(err, ErrBlocked) || errors.Is(err, ErrStrict) || !errors.Is(err, ErrBackend) && !errors.Is(err, backends.ErrUnsupported) && !errors.Is(err, ErrNoBackend):
		if !errors.Is(err, ErrBlocked) && list.Failed >= 0 { // else the list is still in use
			err = fmt.Errorf("problem %d: %w", list.Failed, err)
		}
		return false, err
	}
	return false, nil
}

// gathering is the shape of a list of problems in one call, and whether such a call is expected to win against what KMeansMany does on the processors. A table of thresholds says itself what is
// to be.
func (rt *Runtime) gathering(problems [][]float32, dim, k int) (dispatch.Shape, bool) {
	router, resting := rt.router.Load(), rt.resting(backends.OpKMeans)
	points, apart, possible := 0, 0.0, true
	share, processors := shareOf(problems, k), float64(runtime.GOMAXPROCS(0))
	for _, x := range problems {
		one, without, at := dispatch.KMeans(len(x)/dim, dim, k), rt.threaded[backends.OpKMeans], processors
		if len(x) > share {
			without, at = 0, 1
		}
		d := router.Decide(&one, without|resting)
		points, apart, possible = points+len(x)/dim, apart+d.Nanos/at, possible && d.Arm >= 0
	}
	s := dispatch.KMeansMany(points, dim, k, len(problems))
	if d := router.Decide(&s, resting); d.Reason == dispatch.Listed {
		return s, rt.gathers>>d.Arm&1 != 0
	}
	d := router.Decide(&s, ^rt.gathers|resting)
	return s, d.Arm >= 0 && (!possible || d.Nanos < apart)
}

// iterationsOfAll is how many iterations a point had on average: what one of all points takes is predicted.
func iterationsOfAll(list *backends.KMeansMany, v dispatch.Variant) (int, dispatch.Variant) {
	points, iterations := 0, 0.0
	for _, a := range list.Fits {
		points += a.N
		iterations += float64(a.N) * float64(a.Iterations)
	}
	return int(math.Round(iterations / float64(points))), v
}
