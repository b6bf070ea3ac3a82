// SPDX-License-Identifier: Apache-2.0

package model

import (
	"math"

	"github.com/setun-compute/setun/internal/canon"
)

// activation is the loop between the feed-forward's two products, forward (dy nil) or backward. x has width values a row, or 2·width with gated; y and dy have width.
//
//	ReLU²:  y = max(x, 0)²         dx = dy·2·max(x, 0)
//	SwiGLU: y = g·s·u, s = 1/(1+e^−g), g the first half of the row, u the second
//	        du = dy·g·s            dg = dy·u·s·(1 + g·(1 − s))
type activation struct {
	width int
	gated bool
	x, y  []float32
	dy    []float32
	dx    []float32
}

func (k *activation) rows(lo, hi int) {
	switch w := k.width; {
	case !k.gated && k.dy == nil:
		x := k.x[lo*w : hi*w]
		y := k.y[lo*w:][:len(x)]
		for i, v := range x {
			y[i] = v * positive(v)
		}
	case !k.gated:
		x := k.x[lo*w : hi*w]
		dx, dy := k.dx[lo*w:][:len(x)], k.dy[lo*w:][:len(x)]
		for i, v := range x {
			v = positive(v)
			dx[i] = dy[i] * (v + v)
		}
	case k.dy == nil:
		for r := lo; r < hi; r++ {
			g, u := k.x[2*r*w:][:w], k.x[(2*r+1)*w:][:w]
			y := k.y[r*w:][:w]
			for i, v := range g {
				y[i] = float32(v*sigmoid(v)) * u[i]
			}
		}
	default:
		for r := lo; r < hi; r++ {
			g, u := k.x[2*r*w:][:w], k.x[(2*r+1)*w:][:w]
			dg, du := k.dx[2*r*w:][:w], k.dx[(2*r+1)*w:][:w]
			dy := k.dy[r*w:][:w]
			for i, v := range g {
				s := sigmoid(v)
				du[i] = dy[i] * float32(v*s)
				dg[i] = float32(dy[i]*u[i]) * float32(s*(1+float32(v*(1-s))))
			}
		}
	}
}

// positive is max(x, 0) without a branch, which half of the values would surprise. (Of a NaN with its sign set it is 0; the product in y keeps that one.)
func positive(x float32) float32 {
	b := math.Float32bits(x)
	return math.Float32frombits(b &^ uint32(int32(b)>>31))
}

// sigmoid is 1/(1+e^−x). Where the power overflows it is 0, which is off by less than the smallest normal float32.
func sigmoid(x float32) float32 { return 1 / (1 + canon.Exp32(-x)) }
