// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"fmt"

	"github.com/setun-compute/setun/backends"
)

// rowShapes are rows below a lane, around lanes with more rows than a block has, and long.
var rowShapes = [][2]int{{1, 5}, {35, 33}, {2, 2051}}

func normTrials() (list []*trial) {
	for i, s := range append(rowShapes, [2]int{35, 17}) {
		rows, cols := s[0], s[1]
		n, gradient := rows*cols, i == 3
		x, more, gain := values(n, 1), values(n, 2), positive(cols, 3)
		list = append(list, &trial{shape: fmt.Sprintf("%dx%d gradient=%v", rows, cols, gradient), call: func(t *try) error {
			g := &t.ground
			a := backends.RMSNorm{X: input(g, x), Cols: cols, Gain: input(g, gain), Epsilon: 1e-5, Out: output[float32](g, n)}
			switch {
			case gradient:
				a.Scale, a.DY = input(g, positive(rows, 4)), input(g, more)
				a.DGain, a.Parts = inout(g, values(cols, 5)), output[float32](g, (rows+backends.NormBlock-1)/backends.NormBlock*cols)
			default:
				a.Scale, a.Delta, a.Sum = output[float32](g, rows), input(g, more), output[float32](g, n)
			}
			err := t.backend.RMSNorm(t.kernel, &a)
			take(&t.out, "result", a.Out)
			take(&t.out, "scale", a.Scale)
			take(&t.out, "sum", a.Sum)
			take(&t.out, "gain", a.DGain)
			return err
		}})
	}
	return list
}

func softmaxTrials() (list []*trial) {
	for i, s := range append(rowShapes, [2]int{35, 40}) {
		rows, cols := s[0], s[1]
		n, gradient, period := rows*cols, i == 3, 0
		if i == 1 {
			period = cols
		}
		x, p := values(n, 1), positive(n, 2)
		list = append(list, &trial{shape: fmt.Sprintf("%dx%d period=%d gradient=%v", rows, cols, period, gradient), call: func(t *try) error {
			g := &t.ground
			a := backends.Softmax{X: inout(g, x), Cols: cols, Period: period, Scale: 0.5, Factor: 0.75}
			if gradient {
				a.P = input(g, p)
			} else {
				a.Stats = output[float64](g, 2*rows)
			}
			err := t.backend.Softmax(t.kernel, &a)
			take(&t.out, "result", a.X)
			take(&t.out, "stats", a.Stats)
			return err
		}})
	}
	return list
}

func activateTrials() (list []*trial) {
	for i, s := range rowShapes {
		rows, cols := s[0], s[1]
		for _, f := range []backends.Function{backends.ReLU2, backends.SwiGLU} {
			n, gradient := rows*cols, i == 1
			x, dy := values(n*f.Inputs(), 1), values(n, 2)
			list = append(list, &trial{shape: fmt.Sprintf("%dx%d function %d gradient=%v", rows, cols, f, gradient), call: func(t *try) error {
				g := &t.ground
				a := backends.Activate{Function: f, X: input(g, x), Cols: cols, Out: output[float32](g, n)}
				if gradient {
					a.DY, a.Out = input(g, dy), output[float32](g, len(x))
				}
				err := t.backend.Activate(t.kernel, &a)
				take(&t.out, "result", a.Out)
				return err
			}})
		}
	}
	return list
}
