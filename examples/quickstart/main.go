// SPDX-License-Identifier: Apache-2.0

// Quickstart: one import, one call an op, the fastest kernel that is there.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

func main() {
	rt, err := setun.Open()
	if err != nil {
		log.Fatal(err)
	}
	defer rt.Close()

	q, err := rt.Quantize(nil, []float32{0.9, -0.1, -1.2, 0.4}, quant.Options{})
	fmt.Println(q.Codes, q.Scales, err)

	step, norm, err := rt.Constrain(nil, []float32{3, 4}, 1)
	fmt.Println(step, norm, err)

	c, err := rt.KMeans(context.Background(), nil, []float32{0, 1, 10, 11}, 1, setun.KMeansOptions{K: 2})
	fmt.Println(c.Labels, c.Centroids, c.Inertia, err)
}
