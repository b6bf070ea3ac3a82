// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/setun-compute/setun/backends"
)

// KMeansMany clusters many problems in one call: problems[i] holds points of dim values, and all have the same options. Small problems do not pay for threads
// of their own; here each has one thread, and as many run at once as Go may use processors. dst[i], allocated when nil, is the result of problems[i], the bits that KMeans would
// return for it; dst itself is allocated when nil, or must be as long as problems.
//
// Centroids, when given, start every problem; Weights must be nil, and Progress is not called. When a problem fails the others stop; the error names it, and results are
// unspecified then. Errors otherwise as for KMeans.
func (rt *Runtime) KMeansMany(ctx context.Context, dst []*Clustering, problems [][]float32, dim int, o KMeansOptions) ([]*Clustering, error) {
	shape := fmt.Sprintf("%d problems", len(problems))
	switch {
	case o.Weights != nil:
		return dst, backends.Fail(ErrArgument, backends.OpKMeans, shape, "weights are those of one problem")
	case dst != nil && len(dst) != len(problems):
		return dst, backends.Fail(ErrShape, backends.OpKMeans, shape, "dst has %d results", len(dst))
	}
	if dst == nil {
		dst = make([]*Clustering, len(problems))
	}
	o.Progress = nil
	ctx, cancel := context.WithCancel(given(ctx))
	defer cancel()
	errs := make([]error, len(problems))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(problems)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(problems); i = int(next.Add(1)) - 1 {
				if dst[i], errs[i] = rt.kmeans(ctx, rt.threaded[backends.OpKMeans], dst[i], problems[i], dim, o); errs[i] != nil {
					cancel()
					return
				}
			}
		})
	}
	workers.Wait()
	var first error
	for i, err := range errs {
		if err != nil && (first == nil || errors.Is(first, context.Canceled)) { // one that was only told to stop is not the cause
			first = fmt.Errorf("problem %d: %w", i, err)
		}
	}
	return dst, first
}
