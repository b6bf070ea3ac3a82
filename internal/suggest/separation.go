// SPDX-License-Identifier: Apache-2.0

package suggest

import "math"

// fewRows: below this many rows nothing is held out, and no separation is measured.
const fewRows = 16

// onePeak is the greatest ratio of a distribution with one peak and symmetric about it.
const onePeak = 4

// Separation tells whether the halves of a split are apart. Rows that the split was not fitted to are projected on the line through its two centroids
// and cut at the middle. With D the distance of the sides' means and W the mean of their variances, Ratio is 1 + D²/(4W): the variance of both sides
// together over that within them, if they had equally many rows; so a small cluster counts as much as a large one.
//
// A distribution with one peak and symmetric about it reaches at most 4 (the uniform one; a Gaussian π/(π−2) = 2.75): by Khinchin it is U·Z with U
// uniform in [0, 1], so (E|x|)²/E(x²) ≤ (1/4)/(1/3). Two Gaussians whose means are δ standard deviations apart reach 1 + δ²/4.
type Separation struct {
	Ratio float64
	Rows  int // held out: twice those of the smaller side
}

// apart tells whether the ratio is more than chance makes of one peak: 4, and an allowance that was fitted so that of simulated uniform points, the
// widest peak there is, one or two splits in a thousand pass, from 4 rows held out to 128 (TestChanceIsAllowedFor). With many rows it is four standard
// errors.
func (s Separation) apart() bool {
	h := float64(s.Rows)
	return h > 0 && s.Ratio > onePeak*(1+4/math.Sqrt(h)+float64(20/h*(20/h)))
}

// separate measures held-out rows against two centroids.
func separate(rows, centroids []float32, dim int) Separation {
	a, b := centroids[:dim], centroids[dim:]
	length := 0.0
	for j := range a {
		u := float64(b[j]) - float64(a[j])
		length += float64(u * u)
	}
	s := Separation{Ratio: 1}
	if length == 0 {
		return s
	}
	var n, sum, squares [2]float64 // of t, which is -1/2 at a and 1/2 at b
	for i := 0; i < len(rows); i += dim {
		t := 0.0
		for j, v := range rows[i:][:dim] {
			u := float64(b[j]) - float64(a[j])
			t += float64((float64(v) - float64(a[j])) * u)
		}
		t = t/length - 0.5
		c := 0
		if t > 0 {
			c = 1
		}
		n[c]++
		sum[c] += t
		squares[c] += float64(t * t)
	}
	if n[0] == 0 || n[1] == 0 {
		return s
	}
	d := sum[1]/n[1] - sum[0]/n[0]
	between := float64(d*d) / 2
	within := (squares[0]-float64(sum[0]*sum[0])/n[0])/n[0] + (squares[1]-float64(sum[1]*sum[1])/n[1])/n[1]
	// Sides of equal values leave nothing but rounding within.
	s.Ratio, s.Rows = 1+between/max(within, float64(between*tiny)), int(2*min(n[0], n[1]))
	return s
}
