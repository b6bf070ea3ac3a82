// SPDX-License-Identifier: Apache-2.0

package model

import "math"

const (
	// normEpsilon is added to the mean square, as in most models with RMSNorm.
	normEpsilon = 1e-5
	// rowGrain is how many tokens a chunk has. Gradients of gains are summed a chunk first, so it is a part of their bits.
	rowGrain = 32
)

// normForward is RMSNorm (arXiv 1910.07467) of rows: y = x·r·gain, r = 1/√(mean(x²) + ε). With delta the row is x + delta, which is the residual, and goes to sum.
type normForward struct {
	cols          int
	x, delta, sum []float32 // sum and delta may be nil
	gain          []float32 // cols; nil: all 1
	y             []float32
	scale         []float32 // r of each row, for the backward pass
}

func (k *normForward) rows(lo, hi int) {
	c := k.cols
	for r := lo; r < hi; r++ {
		x := k.x[r*c:][:c]
		if k.delta != nil {
			d, s := k.delta[r*c:][:len(x)], k.sum[r*c:][:len(x)]
			for i, v := range x {
				s[i] = v + d[i]
			}
			x = s
		}
		scale := float32(1 / math.Sqrt(sumSquares(x)/float64(c)+normEpsilon))
		k.scale[r] = scale
		y := k.y[r*c:][:len(x)]
		if k.gain == nil {
			for i, v := range x {
				y[i] = v * scale
			}
			continue
		}
		g := k.gain[:len(x)]
		for i, v := range x {
			y[i] = float32(v*scale) * g[i]
		}
	}
}

// sumSquares is Σx² in float64, in four lanes that are added at the end: index mod 4.
func sumSquares(x []float32) float64 {
	var a, b, c, d float64
	i := 0
	for ; i+4 <= len(x); i += 4 {
		v := x[i:][:4]
		a += float64(float64(v[0]) * float64(v[0]))
		b += float64(float64(v[1]) * float64(v[1]))
		c += float64(float64(v[2]) * float64(v[2]))
		d += float64(float64(v[3]) * float64(v[3]))
	}
	for ; i < len(x); i++ {
		a += float64(float64(x[i]) * float64(x[i]))
	}
	return (a + b) + (c + d)
}

// normBackward is the gradient of normForward. With n = x·r and e = dy·gain: dx = r·(e − n·mean(e·n)), and the gain's gradient is Σ dy·n over the rows.
type normBackward struct {
	cols  int
	x     []float32
	gain  []float32 // nil: all 1
	scale []float32
	dy    []float32
	dx    []float32 // without a gain set, and may be dy; with one added to: the residual has another gradient
	parts []float32 // with a gain: its gradient by chunks of rowGrain rows, cols each
}

func (k *normBackward) rows(lo, hi int) {
	c := k.cols
	if k.gain == nil {
		for r := lo; r < hi; r++ {
			x := k.x[r*c:][:c]
			dy, dx, scale := k.dy[r*c:][:len(x)], k.dx[r*c:][:len(x)], k.scale[r]
			mean := float32(dotRows(dy, x) * float64(scale) / float64(c))
			for i, v := range x {
				n := v * scale
				dx[i] = scale * (dy[i] - float32(n*mean))
			}
		}
		return
	}
	part, g := k.parts[lo/rowGrain*c:][:c], k.gain[:c]
	clear(part)
	for r := lo; r < hi; r++ {
		x := k.x[r*c:][:len(g)]
		dy, dx, scale, p := k.dy[r*c:][:len(g)], k.dx[r*c:][:len(g)], k.scale[r], part[:len(g)]
		var even, odd float64
		for i, v := range x {
			t := float32(dy[i] * float32(v*scale))
			p[i] += t
			// Two sums by turns: one chain of additions would be what the loop waits for.
			even, odd = odd, even+float64(float32(t*g[i]))
		}
		mean := float32((even + odd) / float64(c))
		for i, v := range x {
			n := v * scale
			dx[i] += float32(scale * (float32(dy[i]*g[i]) - float32(n*mean)))
		}
	}
}

// dotRows is Σx·y in float64, in four lanes like sumSquares.
func dotRows(x, y []float32) float64 {
	var a, b, c, d float64
	i := 0
	for ; i+4 <= len(x); i += 4 {
		v, w := x[i:][:4], y[i:][:4]
		a += float64(float64(v[0]) * float64(w[0]))
		b += float64(float64(v[1]) * float64(w[1]))
		c += float64(float64(v[2]) * float64(w[2]))
		d += float64(float64(v[3]) * float64(w[3]))
	}
	for y = y[:len(x)]; i < len(x); i++ {
		a += float64(float64(x[i]) * float64(y[i]))
	}
	return (a + b) + (c + d)
}

// sumParts adds to each of grad the sum of its column of parts, chunk by chunk, in float64.
func sumParts(grad, parts []float32) {
	c := len(grad)
	for i := range grad {
		s := 0.0
		for at := i; at < len(parts); at += c {
			s += float64(parts[at])
		}
		grad[i] += float32(s)
	}
}
