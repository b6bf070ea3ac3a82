// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"math"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/canon"
)

// RMSNorm divides rows by their root mean square, or computes the gradient of that.
func (Backend) RMSNorm(_ backends.Kernel, a *backends.RMSNorm) error {
	switch {
	case a.DY == nil:
		norm(a)
	case a.Gain == nil:
		plainNormGradient(a)
	default:
		normGradient(a)
	}
	return nil
}

func norm(a *backends.RMSNorm) {
	c := a.Cols
	for r := range a.Rows() {
		u := a.X[r*c:][:c]
		if a.Delta != nil {
			x, d := u, a.Delta[r*c:][:len(u)]
			u = a.Sum[r*c:][:len(u)]
			for i := range u {
				u[i] = x[i] + d[i]
			}
		}
		scale := float32(1 / math.Sqrt(float64(canon.SumSquares(u)/float64(c))+a.Epsilon))
		a.Scale[r] = scale
		y := a.Out[r*c:][:len(u)]
		if a.Gain == nil {
			for i, v := range u {
				y[i] = v * scale
			}
			continue
		}
		g := a.Gain[:len(u)]
		for i, v := range u {
			y[i] = float32(v*scale) * g[i]
		}
	}
}

func plainNormGradient(a *backends.RMSNorm) {
	c := a.Cols
	for r := range a.Rows() {
		x := a.X[r*c:][:c]
		dy, out, scale := a.DY[r*c:][:len(x)], a.Out[r*c:][:len(x)], a.Scale[r]
		mean := float32(float64(canon.Dot(dy, x)*float64(scale)) / float64(c))
		for i, v := range x {
			d := scale * (dy[i] - float32(float32(v*scale)*mean))
			if a.Add {
				d = out[i] + float32(d)
			}
			out[i] = d
		}
	}
}

func normGradient(a *backends.RMSNorm) {
	c := a.Cols
	g := a.Gain[:c]
	clear(a.Parts)
	var room [canon.Chunk]float32
	t := room[:]
	if c > len(t) {
		t = make([]float32, c)
	}
	t = t[:c]
	for r := range a.Rows() {
		x, part := a.X[r*c:][:len(g)], a.Parts[r/backends.NormBlock*c:][:len(g)]
		dy, out, scale := a.DY[r*c:][:len(g)], a.Out[r*c:][:len(g)], a.Scale[r]
		for i, v := range x {
			t[i] = float32(dy[i] * float32(v*scale)) // rounded before it is added: some machines would fuse the two
			part[i] += t[i]
		}
		mean := float32(canon.Dot(t, g) / float64(c))
		for i, v := range x {
			d := scale * (float32(dy[i]*g[i]) - float32(float32(v*scale)*mean))
			if a.Add {
				d = out[i] + float32(d)
			}
			out[i] = d
		}
	}
	for i := range g {
		s := 0.0
		for at := i; at < len(a.Parts); at += c {
			s += float64(a.Parts[at])
		}
		a.DGain[i] += float32(s)
	}
}

// Softmax replaces rows by their softmax, or the gradient of that by the gradient of the scores.
func (Backend) Softmax(_ backends.Kernel, a *backends.Softmax) error {
	for r := range a.Rows() {
		row := a.X[r*a.Cols:][:a.Cols]
		seen := row
		if a.Period > 0 {
			seen = row[:a.Cols-a.Period+1+r%a.Period]
		}
		if a.P != nil {
			p := a.P[r*a.Cols:][:len(seen)]
			sum := float32(canon.Dot(p, seen))
			for i, v := range p {
				seen[i] = float32(a.Scale*v) * (seen[i] - sum)
			}
		} else {
			greatest := seen[0]
			for _, v := range seen {
				greatest = max(greatest, v)
			}
			sum := canon.ExpSum(seen, a.Scale, greatest)
			if a.Stats != nil {
				a.Stats[2*r], a.Stats[2*r+1] = float64(greatest)+0, sum // never −0
				if sum != sum {
					a.Stats[2*r] = sum
				}
			}
			f := float32(a.Factor / sum)
			for i, e := range seen {
				seen[i] = e * f
			}
		}
		clear(row[len(seen):])
	}
	return nil
}

// Activate computes ReLU² or SwiGLU, or the gradient.
func (Backend) Activate(_ backends.Kernel, a *backends.Activate) error {
	switch {
	case a.Function == backends.SwiGLU && a.DY == nil:
		for r := range a.Rows() {
			g, u, y := a.X[2*r*a.Cols:][:a.Cols], a.X[(2*r+1)*a.Cols:][:a.Cols], a.Out[r*a.Cols:][:a.Cols]
			for i, v := range g {
				y[i] = float32(v*sigmoid(v)) * u[i]
			}
		}
	case a.Function == backends.SwiGLU:
		for r := range a.Rows() {
			g, u, dy := a.X[2*r*a.Cols:][:a.Cols], a.X[(2*r+1)*a.Cols:][:a.Cols], a.DY[r*a.Cols:][:a.Cols]
			dg, du := a.Out[2*r*a.Cols:][:a.Cols], a.Out[(2*r+1)*a.Cols:][:a.Cols]
			for i, v := range g {
				s, w := sigmoid(v), u[i]
				du[i] = dy[i] * float32(v*s)
				dg[i] = float32(dy[i]*w) * float32(s*(1+float32(v*(1-s))))
			}
		}
	case a.DY == nil:
		y := a.Out[:len(a.X)]
		for i, v := range a.X {
			y[i] = v * positive(v)
		}
	default:
		dx, dy := a.Out[:len(a.X)], a.DY[:len(a.X)]
		for i, v := range a.X {
			v = positive(v)
			dx[i] = dy[i] * (v + v)
		}
	}
	return nil
}

// positive is x where x > 0, else +0, of a NaN too; without a branch, which half of the values would surprise.
func positive(x float32) float32 {
	b := math.Float32bits(x)
	keep := (int64(b-1) - 0x7f800000) >> 63 // all bits for 0 < x <= +Inf
	return math.Float32frombits(b & uint32(keep))
}

// sigmoid is 1/(1+e^−x). Where the power overflows it is 0, which is off by less than the smallest normal float32.
func sigmoid(x float32) float32 { return 1 / (1 + canon.Exp32(-x)) }
