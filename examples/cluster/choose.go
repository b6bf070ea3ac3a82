// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	setun "github.com/setun-compute/setun/runtime"
)

// chooseK finds the number of clusters for -suggest, and says why.
func chooseK(ctx context.Context, rt *setun.Runtime, points []float32, dim int, seed uint64) (k int, reason string, err error) {
	s, err := rt.SuggestK(ctx, points, dim, setun.SuggestOptions{Seed: seed})
	if err != nil {
		return 0, "", err
	}
	return s.K, s.Reason, nil
}

// setBatch turns mini-batches on for -minibatch: of ten points a cluster, and not so few that drawing them costs more than labelling.
func setBatch(o *setun.KMeansOptions) {
	o.Batch = max(4096, 10*o.K)
}
