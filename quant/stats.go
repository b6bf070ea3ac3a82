// SPDX-License-Identifier: Apache-2.0

package quant

import (
	"fmt"
	"math"
)

// Stats compares a quantized tensor with the values that it stands for.
type Stats struct {
	Zeros       float64 `json:"zeros"`       // share of codes that are 0
	Entropy     float64 `json:"entropy"`     // bits a code, of the codes' own distribution: what an ideal coder would need
	Bits        float64 `json:"bits"`        // bits a value really taken in memory, scales included
	Compression float64 `json:"compression"` // 32/Bits
	MSE         float64 `json:"mse"`         // mean (x − q)²
	Relative    float64 `json:"relative"`    // ‖x − q‖²/‖x‖²; 0 for an all-zero x
	Cosine      float64 `json:"cosine"`      // x·q/(‖x‖‖q‖); 0 when either is 0
	Magnitude   float64 `json:"magnitude"`   // ‖q‖/‖x‖; 0 for an all-zero x
}

// Measure computes the Stats of t against the values x it was made from. Plain float64 sums, single-threaded: a report, not a kernel.
func Measure(t *Tensor, x []float32) (Stats, error) {
	q, err := t.Dequantize(nil)
	if err != nil {
		return Stats{}, err
	}
	if len(x) != len(q) {
		return Stats{}, fmt.Errorf("%w: %d values measured against %d", ErrFormat, len(q), len(x))
	}
	var counts [5]int
	row := make([]int8, t.Cols)
	for r := range t.Rows {
		t.UnpackRow(row, r)
		for _, c := range row {
			counts[c+2]++
		}
	}
	n := float64(len(x))
	var s Stats
	for _, c := range counts {
		if c > 0 {
			p := float64(c) / n
			s.Entropy -= p * math.Log2(p)
		}
	}
	s.Zeros = float64(counts[2]) / n
	s.Bits = 8 * float64(t.Bytes()) / n
	s.Compression = 32 / s.Bits
	var xx, qq, xq, ee float64
	for i, v := range x {
		a, b := float64(v), float64(q[i])
		e := a - b
		xx += a * a
		qq += b * b
		xq += a * b
		ee += e * e
	}
	s.MSE = ee / n
	if xx > 0 {
		s.Relative, s.Magnitude = ee/xx, math.Sqrt(qq/xx)
		if qq > 0 {
			s.Cosine = xq / math.Sqrt(xx) / math.Sqrt(qq)
		}
	}
	return s, nil
}
