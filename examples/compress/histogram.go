// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/quant"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

const (
	bold     = 3   // of font.Font.Weight
	reach    = 3   // scales to either side that are drawn
	halfBins = 120 // bins to either side
)

// histogram counts values over their scale, by the code that they became, for each set of levels.
type histogram struct{ panels [6]panel }

// panel is one set of levels; its index is the number of quant.Levels.
type panel struct {
	counts [2 * halfBins][5]int64
	beyond int64
	stats  stats
}

// add takes a chunk. Values whose scale is 0 have no place.
func (h *histogram) add(q *quant.Tensor, x []float32) {
	p := &h.panels[q.Levels]
	p.stats.add(q, x)
	group := max(q.Group, 1)
	per := (q.Cols-1)/group + 1
	for i, v := range x {
		s := q.Scales[0]
		if q.Group > 0 {
			s = q.Scales[i/q.Cols*per+i%q.Cols/group]
		}
		if s <= 0 {
			continue
		}
		at := int(math.Floor(float64(v)/float64(s)*(halfBins/reach) + halfBins))
		if at < 0 || at >= 2*halfBins {
			p.beyond++
			continue
		}
		p.counts[at][q.Codes[i]+2]++
	}
}

// write draws a panel for each set of levels that there was, as a PNG.
func (h *histogram) write(path, input string) error {
	var used []quant.Levels
	for _, l := range []quant.Levels{quant.Ternary, quant.Quinary, quant.Sparse} {
		if h.panels[l].stats.n > 0 {
			used = append(used, l)
		}
	}
	const head, each = 62, 290
	height := vg.Length(head + each*max(1, len(used)))
	canvas := vgimg.NewWith(vgimg.UseWH(9*vg.Inch, height), vgimg.UseDPI(150))
	page := draw.New(canvas)
	title := sans(plot.New().Title.TextStyle, 16, grey(30))
	title.XAlign, title.YAlign = text.XLeft, text.YTop
	page.FillText(title, vg.Point{X: 18, Y: page.Max.Y - 14}, filepath.Base(input)+": its weights, and the levels that stand for them")
	note := "no tensor became codes"
	if len(used) > 0 {
		note = "each value over the scale s that it shares; the colour is the code it became"
	}
	page.FillText(sans(title, 10.5, grey(110)), vg.Point{X: 18, Y: page.Max.Y - 37}, note)
	for i, l := range used {
		top := page.Max.Y - head - vg.Length(i)*each
		area := draw.Canvas{Canvas: page.Canvas, Rectangle: vg.Rectangle{Min: vg.Point{X: 12, Y: top - each + 10}, Max: vg.Point{X: page.Max.X - 18, Y: top}}}
		newPlot(l, &h.panels[l]).Draw(area)
	}
	return durable.Write(path, 0o644, func(w io.Writer) error {
		_, err := vgimg.PngCanvas{Canvas: canvas}.WriteTo(w)
		return err
	})
}

func newPlot(l quant.Levels, p *panel) *plot.Plot {
	pl := plot.New()
	pl.X.Min, pl.X.Max, pl.Y.Min = -reach, reach, 0
	most := int64(1)
	for _, bin := range p.counts {
		most = max(most, bin[0]+bin[1]+bin[2]+bin[3]+bin[4])
	}
	pl.Y.Max = 1.34 * float64(most) // room for the labels
	pl.Y.Tick.Marker = plot.ConstantTicks(nil)
	pl.Y.LineStyle.Width, pl.Y.Padding, pl.X.Padding = 0, 0, 0
	pl.X.LineStyle.Color, pl.X.Tick.LineStyle.Color = grey(120), grey(120)
	pl.X.Tick.Label = sans(pl.X.Tick.Label, 10, grey(90))
	var ticks []plot.Tick
	for _, n := range []int{-3, -2, -1, 0, 1, 2, 3} {
		label := map[int]string{0: "0", 1: "s", -1: "−s"}[n]
		if label == "" {
			label = fmt.Sprintf("%ds", n)
			if n < 0 {
				label = fmt.Sprintf("−%ds", -n)
			}
		}
		ticks = append(ticks, plot.Tick{Value: float64(n), Label: label})
	}
	pl.X.Tick.Marker = plot.ConstantTicks(ticks)
	pl.Add(&bars{panel: p, levels: l})
	return pl
}

// codeColours are those of the codes −2 … 2.
func codeColours() [5]color.NRGBA {
	return [5]color.NRGBA{{R: 24, G: 84, B: 148, A: 255}, {R: 86, G: 156, B: 214, A: 255}, {R: 203, G: 208, B: 214, A: 255}, {R: 240, G: 150, B: 72, A: 255}, {R: 190, G: 84, B: 20, A: 255}}
}

// bars draws a panel.
type bars struct {
	*panel
	levels quant.Levels
}

// Plot draws bars of each bin, code upon code, then thresholds and levels over them.
func (b *bars) Plot(c draw.Canvas, pl *plot.Plot) {
	x, y := pl.Transforms(&c)
	colours := codeColours()
	at := func(i int) vg.Length { return x(float64(i-halfBins) * reach / halfBins) }
	for i, bin := range b.counts {
		sum := int64(0)
		for _, k := range []int{2, 1, 3, 0, 4} { // zeros below
			if bin[k] > 0 {
				left, right := at(i), at(i+1)+0.4 // over the seam, where the page would shine through
				c.FillPolygon(colours[k], []vg.Point{{X: left, Y: y(float64(sum))}, {X: right, Y: y(float64(sum))}, {X: right, Y: y(float64(sum + bin[k]))}, {X: left, Y: y(float64(sum + bin[k]))}})
				sum += bin[k]
			}
		}
	}
	style := sans(pl.Title.TextStyle, 11, grey(40))
	style.XAlign, style.YAlign = text.XCenter, text.YBottom
	top := y(pl.Y.Max)
	dashed := draw.LineStyle{Color: grey(60), Width: 0.9, Dashes: []vg.Length{4, 3}}
	edges := b.thresholds()
	for _, e := range edges {
		c.StrokeLine2(dashed, at(e), y(0), at(e), y(0.80*pl.Y.Max))
	}
	units := []float64{-1, 0, 1}
	codes := []int{1, 2, 3}
	names := []string{"−s", "0", "+s"}
	if b.levels == quant.Quinary {
		units, codes, names = []float64{-1, -0.5, 0, 0.5, 1}, []int{0, 1, 2, 3, 4}, []string{"−s", "−s/2", "0", "+s/2", "+s"}
	}
	mark := y(0.84 * pl.Y.Max)
	for i, u := range units {
		dark := shade(colours[codes[i]])
		c.StrokeLine2(draw.LineStyle{Color: dark, Width: 2}, x(u), y(0), x(u), mark)
		c.DrawGlyph(draw.GlyphStyle{Color: color.White, Radius: 5.5, Shape: draw.CircleGlyph{}}, vg.Point{X: x(u), Y: mark})
		c.DrawGlyph(draw.GlyphStyle{Color: dark, Radius: 4.2, Shape: draw.CircleGlyph{}}, vg.Point{X: x(u), Y: mark})
		s := sans(style, 11, dark)
		s.Font.Weight = bold
		c.FillText(s, vg.Point{X: x(u), Y: mark + 17}, names[i])
		c.FillText(sans(style, 10, grey(70)), vg.Point{X: x(u), Y: mark + 6}, fmt.Sprintf("%.1f %%", 100*share(float64(b.stats.counts[codes[i]]), float64(b.stats.n))))
	}
	b.legend(c, style, top, len(edges) > 0)
}

// legend tells at the left what is drawn, and at the right the figures.
func (b *bars) legend(c draw.Canvas, style text.Style, top vg.Length, thresholds bool) {
	style.XAlign, style.YAlign = text.XLeft, text.YTop
	name := sans(style, 14, grey(30))
	name.Font.Weight = bold
	small := sans(style, 10, grey(70))
	left := c.Min.X + 6
	c.FillText(name, vg.Point{X: left, Y: top - 2}, b.levels.String())
	c.FillText(small, vg.Point{X: left, Y: top - 24}, fmt.Sprintf("%s values", grouped(b.stats.n)))
	dot := vg.Point{X: left + 6, Y: top - 46}
	c.StrokeLine2(draw.LineStyle{Color: grey(60), Width: 2}, dot.X, dot.Y-6, dot.X, dot.Y+1)
	c.DrawGlyph(draw.GlyphStyle{Color: grey(60), Radius: 3.4, Shape: draw.CircleGlyph{}}, dot)
	c.FillText(small, vg.Point{X: left + 18, Y: top - 40}, "level, and its share of the codes")
	if thresholds {
		c.StrokeLine2(draw.LineStyle{Color: grey(60), Width: 0.9, Dashes: []vg.Length{3, 2}}, dot.X, dot.Y-24, dot.X, dot.Y-11)
		c.FillText(small, vg.Point{X: left + 18, Y: top - 57}, "threshold")
	} else {
		c.FillText(small, vg.Point{X: left, Y: top - 57}, "no threshold: the least of four becomes 0")
	}
	small.XAlign = text.XRight
	right := c.Max.X - 4
	for i, s := range []string{fmt.Sprintf("entropy  %.3f bits", b.stats.entropy()), fmt.Sprintf("MSE/x²  %.4f", b.stats.relative()),
		fmt.Sprintf("cosine  %.4f", b.stats.cosine()), fmt.Sprintf("‖q‖/‖x‖  %.4f", b.stats.magnitude())} {
		c.FillText(small, vg.Point{X: right, Y: top - 6 - vg.Length(17*i)}, s)
	}
}

// thresholds returns the edges of bins at which most values get another code. Sparse codes have none: a value's code depends on its neighbours.
func (p *bars) thresholds() []int {
	if p.levels == quant.Sparse {
		return nil
	}
	var edges []int
	last := -1
	for i, bin := range p.counts {
		most := -1
		for k, n := range bin {
			if n > 0 && (most < 0 || n > bin[most]) {
				most = k
			}
		}
		if most >= 0 && last >= 0 && most != last {
			edges = append(edges, i)
		}
		if most >= 0 {
			last = most
		}
	}
	return edges
}

// shade is a darker colour, for lines on areas.
func shade(c color.NRGBA) color.NRGBA {
	return color.NRGBA{R: c.R / 5 * 3, G: c.G / 5 * 3, B: c.B / 5 * 3, A: 255}
}

// sans returns the style with another face, size and colour.
func sans(s text.Style, size font.Length, colour color.Color) text.Style {
	s.Font.Variant, s.Font.Size, s.Color = "Sans", size, colour
	return s
}

func grey(v uint8) color.NRGBA { return color.NRGBA{R: v, G: v, B: v, A: 255} }

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
