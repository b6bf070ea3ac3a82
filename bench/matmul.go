// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/setun-compute/setun/backends"
	setun "github.com/setun-compute/setun/runtime"
)

// matmul is c = a·b, n×n each, float32.
func matmul(n int, quick bool) *bench {
	work := 2 * float64(n) * float64(n) * float64(n)
	b := &bench{op: "matmul", shape: fmt.Sprintf("%dx%dx%d", n, n, n), values: 2 * n * n, quick: quick, figures: []figure{{figureCall, work, "GFLOP/s"}}}
	b.contenders = func(e *env) (cs []*contender, done func(), err error) {
		a, c := e.x[:2*n*n], pages[float32](n*n)
		cs, done, err = e.ours(backends.OpMatMul, func(rt *setun.Runtime) (func() (times, error), error) {
			return turns(n*n, func() error {
				_, err := rt.MatMul(c, a[:n*n], a[n*n:], n, n, n, setun.MatMulOptions{})
				return err
			}), nil
		})
		if err != nil {
			return nil, nil, err
		}
		if e.numpy != nil {
			cs = append(cs, e.asks("NumPy matmul", e.numpy, "matmul %d 1", n))
		}
		return append(cs, e.peak(work, figureCall)...), done, nil
	}
	return b
}
