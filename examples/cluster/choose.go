// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

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

// setBatch turns mini-batches on for -minibatch.
func setBatch(o *setun.KMeansOptions) error {
	// merged with KMeansOptions.Batch
	return errors.New("-minibatch is not built in")
}
