// SPDX-License-Identifier: Apache-2.0

package main

import (
	"image/color"
	"math"

	"gonum.org/v1/plot/plotter"
)

// shades is how many colours there are: more cannot be told apart.
const shades = 24

// lab is a colour in Oklab, where distances are as the eye sees them: Björn Ottosson, A perceptual color space for image processing (2020).
type lab struct{ l, a, b float64 }

// colours gives each centroid one of a few colours, so that neighbours in the picture differ: each in turn takes the one that is least like those
// of its neighbours before it.
func colours(centres plotter.XYs) []color.NRGBA {
	n := min(shades, max(2, len(centres)))
	palette := make([]lab, n)
	for i := range palette {
		h := 2 * math.Pi * (float64(i)/float64(n) + 0.08)
		palette[i] = lab{0.68, 0.145 * math.Cos(h), 0.145 * math.Sin(h)}
		if n > 8 { // hues alone are too close
			palette[i].l += []float64{0.12, -0.16}[i%2]
		}
	}
	var width, height float64
	for i := range centres {
		width, height = max(width, math.Abs(centres[i].X-centres[0].X)), max(height, math.Abs(centres[i].Y-centres[0].Y))
	}
	taken := make([]int, len(centres))
	list := make([]color.NRGBA, len(centres))
	for j, c := range centres {
		near := make([]float64, n) // by colour: how near to it the centroids are that have it
		for i, t := range taken[:j] {
			dx, dy := (c.X-centres[i].X)/max(width, 1e-300), (c.Y-centres[i].Y)/max(height, 1e-300)
			near[t] += 1 / (dx*dx + dy*dy + 1e-4)
		}
		least := math.Inf(1)
		for i, p := range palette {
			if len(centres) <= n && near[i] > 0 {
				continue // each colour once, while they last
			}
			cost := 0.0
			for t, q := range palette {
				cost += near[t] * math.Exp(-((p.l-q.l)*(p.l-q.l)+(p.a-q.a)*(p.a-q.a)+(p.b-q.b)*(p.b-q.b))/0.01)
			}
			if cost < least {
				least, taken[j] = cost, i
			}
		}
		list[j] = palette[taken[j]].rgb()
	}
	return list
}

// rgb converts to sRGB, cutting off what it cannot show.
func (c lab) rgb() color.NRGBA {
	l, m, s := c.l+0.3963377774*c.a+0.2158037573*c.b, c.l-0.1055613458*c.a-0.0638541728*c.b, c.l-0.0894841775*c.a-1.2914855480*c.b
	l, m, s = l*l*l, m*m*m, s*s*s
	channel := func(v float64) uint8 {
		if v = min(max(v, 0), 1); v <= 0.0031308 {
			v *= 12.92
		} else {
			v = 1.055*math.Pow(v, 1/2.4) - 0.055
		}
		return uint8(math.Round(255 * v))
	}
	return color.NRGBA{
		R: channel(4.0767416621*l - 3.3077115913*m + 0.2309699292*s),
		G: channel(-1.2684380046*l + 2.6097574011*m - 0.3413193965*s),
		B: channel(-0.0041960863*l - 0.7034186147*m + 1.7076147010*s),
		A: 255,
	}
}
