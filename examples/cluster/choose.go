// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	setun "github.com/setun-compute/setun/runtime"
)

// chooseK finds the number of clusters for -suggest, and says why.
func chooseK(ctx context.Context, rt *setun.Runtime, points []float32, dim int, seed uint64) (k int, reason string, err error) {
	// merged with SuggestK
	return 0, "", errors.New("-suggest is not built in")
}

// setBatch turns mini-batches on for -minibatch.
func setBatch(o *setun.KMeansOptions) error {
	// merged with KMeansOptions.Batch
	return errors.New("-minibatch is not built in")
}
