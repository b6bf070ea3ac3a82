// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"image/color"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"

	setun "github.com/setun-compute/setun/runtime"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

const (
	named = 40 // clusters at most whose centroids carry their number
	bold  = 2  // of font.Font.Weight
)

// picture draws a sample of the points and all centroids on the first two principal components of the sample, as a PNG.
func picture(ctx context.Context, w io.Writer, r *report, points []float32, c *setun.Clustering) error {
	rows := sample(r.Rows, r.Dim, r.Seed)
	seen := gather(points, r.Dim, rows)
	pl, err := newPlane(ctx, seen, r.Dim)
	if err != nil {
		return err
	}
	m := marks{XYs: pl.project(c.Centroids)}
	m.colours = colours(m.XYs)
	places, labels := pl.project(seen), make([]int32, len(rows))
	for i, row := range rows {
		labels[i] = c.Labels[row]
	}
	rand.New(rand.NewPCG(r.Seed, 0)).Shuffle(len(rows), func(i, j int) { // so that no cluster lies on top because it comes last
		places[i], places[j] = places[j], places[i]
		labels[i], labels[j] = labels[j], labels[i]
	})

	p := plot.New()
	p.X.Label.Text = fmt.Sprintf("first component: %.1f %% of the variance", 100*pl.share[0])
	p.Y.Label.Text = fmt.Sprintf("second component: %.1f %% of the variance", 100*pl.share[1])
	cloud, err := plotter.NewScatter(places)
	if err != nil {
		return err
	}
	cloud.GlyphStyleFunc = func(i int) draw.GlyphStyle {
		colour := m.colours[labels[i]]
		colour.A = 150
		return draw.GlyphStyle{Color: colour, Radius: 1.3, Shape: draw.CircleGlyph{}}
	}
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = grey(232), grey(232)
	p.Add(grid, cloud, m)
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		margin := 0.02 * (a.Max - a.Min)
		a.Min, a.Max, a.Padding = a.Min-margin, a.Max+margin, 0
		a.LineStyle.Color, a.Tick.LineStyle.Color = grey(120), grey(120)
		a.Label.TextStyle = sans(a.Label.TextStyle, 11, grey(40))
		a.Label.Padding = 5
		a.Tick.Label = sans(a.Tick.Label, 9, grey(110))
	}

	canvas := vgimg.NewWith(vgimg.UseWH(9*vg.Inch, 7.2*vg.Inch), vgimg.UseDPI(150))
	page := draw.New(canvas)
	title := sans(p.Title.TextStyle, 15, grey(30))
	title.XAlign, title.YAlign = text.XLeft, text.YTop
	page.FillText(title, vg.Point{X: 14, Y: page.Max.Y - 12}, fmt.Sprintf("%s in %s clusters", filepath.Base(r.Input), grouped(c.K)))
	page.FillText(sans(title, 10, grey(110)), vg.Point{X: 14, Y: page.Max.Y - 32},
		fmt.Sprintf("%s of %s rows and the centroids, on the first two principal components of the rows", grouped(len(rows)), grouped(r.Rows)))
	p.Draw(draw.Crop(page, 10, -16, 8, -52))
	_, err = vgimg.PngCanvas{Canvas: canvas}.WriteTo(w)
	return err
}

// marks are the centroids: discs in their colour with a dark rim, with their number where there are few.
type marks struct {
	plotter.XYs
	colours []color.NRGBA
}

// DataRange makes room for the centroids.
func (m marks) DataRange() (xmin, xmax, ymin, ymax float64) { return plotter.XYRange(m.XYs) }

// Plot draws each disc with its number before the next, so that a number never stands on another's disc.
func (m marks) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	disc := func(at vg.Point, radius vg.Length, colour color.Color) {
		c.DrawGlyph(draw.GlyphStyle{Color: colour, Radius: radius, Shape: draw.CircleGlyph{}}, at)
	}
	radius, numbered := vg.Length(3), len(m.XYs) <= named
	places := make([]vg.Point, len(m.XYs))
	for j, centre := range m.XYs {
		places[j] = vg.Point{X: x(centre.X), Y: y(centre.Y)}
	}
	discs := slices.Clone(places)
	if numbered {
		radius = 8
		spread(discs, 2*radius+3)
	}
	for j, at := range discs {
		if at != places[j] { // a line leads from the disc to where it belongs
			c.StrokeLine2(draw.LineStyle{Color: grey(20), Width: 1}, at.X, at.Y, places[j].X, places[j].Y)
			disc(places[j], 2, grey(20))
		}
	}
	for j, at := range discs {
		disc(at, radius+1.7, color.White)
		disc(at, radius+0.9, grey(20))
		disc(at, radius, m.colours[j])
		if !numbered {
			continue
		}
		ink := grey(0)
		if f := m.colours[j]; 3*int(f.R)+6*int(f.G)+int(f.B) < 1200 { // luma
			ink = grey(255)
		}
		number := sans(p.Title.TextStyle, 9, ink)
		number.Font.Weight = bold
		number.XAlign, number.YAlign = text.XCenter, text.YCenter
		at.Y += 0.8 // digits have no descenders
		c.FillText(number, at, strconv.Itoa(j))
	}
}

// spread pushes points apart that are nearer to each other than gap.
func spread(points []vg.Point, gap vg.Length) {
	for range 100 {
		for j := range points {
			for i := range j {
				d := points[j].Sub(points[i])
				length := vg.Length(math.Hypot(float64(d.X), float64(d.Y)))
				if length >= gap {
					continue
				}
				if length == 0 {
					d, length = vg.Point{X: 1}, 1
				}
				push := d.Scale((gap - min(length, gap)) / (2 * length))
				points[i], points[j] = points[i].Sub(push), points[j].Add(push)
			}
		}
	}
}

// sans returns the style with another face, size and colour.
func sans(s text.Style, size font.Length, colour color.Color) text.Style {
	s.Font.Variant, s.Font.Size, s.Color = "Sans", size, colour
	return s
}

func grey(v uint8) color.NRGBA { return color.NRGBA{R: v, G: v, B: v, A: 255} }

// grouped writes 1234567 as 1,234,567.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
