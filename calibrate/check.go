// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/runtime"
)

// checkLayers compares the ops of networks that lie between products.
func checkLayers(want, got *runtime.Runtime, d *data) error {
	const rows, cols = 9, 1001
	x, y := d.x[:rows*cols], d.y[:rows*cols]
	for name, call := range map[string]func(*runtime.Runtime) ([][]float32, error){
		"rmsnorm": func(rt *runtime.Runtime) ([][]float32, error) {
			out, scale := make([]float32, len(x)), make([]float32, rows)
			err := rt.RMSNorm(runtime.RMSNorm{X: x, Cols: cols, Gain: y[:cols], Scale: scale, Out: out, Epsilon: 1e-5})
			return [][]float32{out, scale}, err
		},
		"softmax": func(rt *runtime.Runtime) ([][]float32, error) {
			out := slices.Clone(x)
			err := rt.Softmax(runtime.Softmax{X: out, Cols: cols, Scale: 0.5, Factor: 1})
			return [][]float32{out}, err
		},
		"activate": func(rt *runtime.Runtime) ([][]float32, error) {
			out := make([]float32, len(x))
			err := rt.Activate(runtime.Activate{Function: backends.ReLU2, X: x, Cols: cols, Out: out})
			return [][]float32{out}, err
		},
		"update": func(rt *runtime.Runtime) ([][]float32, error) {
			m, v, delta := make([]float32, len(x)), make([]float32, len(x)), make([]float32, len(x))
			err := rt.Update(runtime.Update{Method: backends.AdamW, Value: x, Grad: y, M: m, V: v, Delta: delta, Rate: 1e-3, Decay: 0.1, Beta1: 0.9, Beta2: 0.95, Epsilon: 1e-8, Unbias1: 10, Unbias2: 20})
			return [][]float32{m, v, delta}, err
		},
	} {
		a, err := call(want)
		if err != nil {
			return err
		}
		b, err := call(got)
		switch {
		case errors.Is(err, runtime.ErrNoBackend):
			continue
		case err != nil:
			return err
		}
		for i := range a {
			if !slices.EqualFunc(a[i], b[i], func(p, q float32) bool { return math.Float32bits(p) == math.Float32bits(q) }) {
				return fmt.Errorf("%s differs from pure Go", name)
			}
		}
	}
	return nil
}
