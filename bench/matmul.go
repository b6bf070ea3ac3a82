// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// matmul is c = a·b, n×n each, float32.
func matmul(n int, quick bool) *bench {
	work := 2 * float64(n) * float64(n) * float64(n)
	b := &bench{op: "matmul", shape: fmt.Sprintf("%dx%dx%d", n, n, n), values: 2 * n * n, quick: quick, figures: []figure{{figureCall, work, "GFLOP/s"}}}
	b.contenders = func(e *env) (cs []*contender, done func(), err error) {
		// The runtime has no matmul yet: its contenders come here, from e.ours.
		done = func() {}
		if e.numpy != nil {
			cs = append(cs, e.asks("NumPy matmul", e.numpy, "matmul %d 1", n))
		}
		return append(cs, e.peak(work, figureCall)...), done, nil
	}
	return b
}
