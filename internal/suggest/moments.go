// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"context"
	"errors"
	"fmt"

	"github.com/setun-compute/setun/backends"
)

// checkEvery is how many rows are read between looks at the context.
const checkEvery = 1 << 16

// moments are what the criteria need of a cluster.
type moments struct {
	n    int
	mean []float64
	sse  float64 // Σ‖x − mean‖²
}

// measure returns the moments of the rows of label 0 and 1; without labels all rows have label 0, and one reference will do. reference holds a point
// near each mean: sums are of the differences from it, so nothing cancels however far from the origin the rows are.
func measure(ctx context.Context, rows []float32, dim int, labels []int32, reference []float32) (m [2]moments, err error) {
	var squares [2]float64
	for c := range len(reference) / dim {
		m[c].mean = make([]float64, dim)
	}
	for i := 0; i*dim < len(rows); i++ {
		if i%checkEvery == 0 {
			if err := ctx.Err(); err != nil {
				return m, err
			}
		}
		c := 0
		if labels != nil {
			c = int(labels[i])
		}
		m[c].n++
		near, sum, square := reference[c*dim:][:dim], m[c].mean, 0.0
		for j, v := range rows[i*dim:][:dim] {
			t := float64(v) - float64(near[j])
			sum[j] += t
			square += float64(t * t)
		}
		squares[c] += square
	}
	for c := range m {
		if m[c].n == 0 {
			continue
		}
		n, away := float64(m[c].n), 0.0
		for j, s := range m[c].mean {
			away += float64(s * s)
			m[c].mean[j] = float64(reference[c*dim+j]) + s/n
		}
		m[c].sse = max(0, squares[c]-away/n)
	}
	return m, nil
}

// total returns the moments of all points. It fails for a value that is not finite, naming its row and column.
func total(ctx context.Context, op string, points []float32, dim int) (moments, error) {
	m, err := measure(ctx, points, dim, nil, points[:dim])
	if err != nil {
		return m[0], err
	}
	if s := m[0].sse; s-s != 0 {
		return m[0], nonFinite(op, points, dim)
	}
	m, err = measure(ctx, points, dim, nil, narrow(m[0].mean))
	return m[0], err
}

func nonFinite(op string, points []float32, dim int) error {
	for i, v := range points {
		if v-v != 0 {
			return &backends.Error{Op: op, Shape: fmt.Sprintf("%dx%d", len(points)/dim, dim), Detail: fmt.Sprintf("row %d, column %d = %v", i/dim, i%dim, v), Err: backends.ErrNonFinite}
		}
	}
	return errors.New("suggest: the sum of squares of finite values is not finite")
}
