// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// palette keeps a contender's colour the same in all charts; the hues differ in lightness too.
var palette = []struct {
	who   string
	color color.RGBA
}{
	{ours, color.RGBA{0, 78, 137, 255}},
	{"scikit-learn", color.RGBA{240, 138, 36, 255}},
	{"FAISS", color.RGBA{62, 150, 81, 255}},
	{"NumPy lean", color.RGBA{137, 87, 180, 255}},
	{"NumPy plain", color.RGBA{204, 170, 226, 255}},
	{"NumPy matmul", color.RGBA{137, 87, 180, 255}},
}

// chart is bars in groups, one group a case, with a dashed bound over each.
type chart struct {
	file, title, x, y string
	ratio             bool // a line at 1
	groups            []string
	bars              map[string][]float64 // by contender, one a group; NaN where there is none
	spreads           map[string][]spread
	bound             string
	bounds            []float64
}

// charts picks what is plotted: a figure of each case, of the contenders that have a colour.
func (r *report) charts() []*chart {
	ratio := &chart{file: "kmeans-ratio", title: "k-means, an iteration: setun against others (above 1: setun is faster)", y: "speed of setun ÷ speed of the other", ratio: true}
	flops := &chart{file: "flops", title: "Arithmetic: an iteration of k-means, and matrix products", y: "GFLOP/s", bound: "FMA peak"}
	bytes := &chart{file: "memory", title: "What moves memory", y: "input, GB/s", bound: "C loop"}
	for i := range r.Results {
		v := &r.Results[i]
		switch {
		case v.Op == "kmeans" && v.Figure == figureIteration:
			if v.Speed != nil && !v.Ceiling {
				ratio.add(group(v), v.Who, *v.Speed)
			}
			flops.add(group(v), v.Who, rates(v))
		case v.Op == "matmul":
			flops.add(group(v), v.Who, rates(v))
		case v.Op == "quantize" || v.Op == "constrain":
			bytes.add(group(v), v.Who, rates(v))
		}
	}
	ratio.x, flops.x, bytes.x = "points × dimensions × clusters", "sizes", "values"
	return []*chart{ratio, flops, bytes}
}

// rates turns the spread of times into one of rates.
func rates(v *result) spread {
	scale := v.Rate * v.NS.Median
	return spread{Median: v.Rate, Low: scale / v.NS.High, High: scale / v.NS.Low}
}

// group is the label under a group: "kmeans\n100k×128×256".
func group(v *result) string {
	words := strings.Fields(v.Shape)
	sizes := strings.Split(words[0], "x")
	for i, s := range sizes {
		n, err := strconv.Atoi(s)
		switch {
		case err == nil && n >= 1_000_000 && n%1_000_000 == 0:
			sizes[i] = fmt.Sprintf("%d M", n/1_000_000)
		case err == nil && n >= 10_000 && n%1000 == 0:
			sizes[i] = fmt.Sprintf("%d k", n/1000)
		}
	}
	words[0] = strings.Join(sizes, " × ")
	return v.Op + "\n" + strings.Join(words, " ")
}

// add puts a value into the chart; contenders without a colour are left out.
func (c *chart) add(group, who string, s spread) {
	if len(c.groups) == 0 || c.groups[len(c.groups)-1] != group {
		c.groups = append(c.groups, group)
		c.bounds = append(c.bounds, math.NaN())
	}
	i := len(c.groups) - 1
	if who == c.bound {
		c.bounds[i] = s.Median
		return
	}
	if c.bars == nil {
		c.bars, c.spreads = map[string][]float64{}, map[string][]spread{}
	}
	for len(c.bars[who]) < i {
		c.bars[who], c.spreads[who] = append(c.bars[who], math.NaN()), append(c.spreads[who], spread{})
	}
	c.bars[who], c.spreads[who] = append(c.bars[who], s.Median), append(c.spreads[who], s)
}

// plots writes each chart that has something in it as PNG and SVG.
func (r *report) plots(dir string) error {
	caption := fmt.Sprintf("%s. Threads: %d. Medians, lines to the quartiles. %s", r.Machine, r.Threads, r.When)
	for _, c := range r.charts() {
		if len(c.bars) == 0 {
			continue
		}
		if err := c.save(dir, caption); err != nil {
			return fmt.Errorf("plot %s: %w", c.file, err)
		}
	}
	return nil
}

const (
	barWidth = 22 // points
	fontSize = 9
)

// drawn is the chart as a plot, and its width.
func (c *chart) drawn(caption string) (*plot.Plot, vg.Length, error) {
	p := plot.New()
	p.Title.Text, p.Title.TextStyle.Font.Size, p.Title.Padding = c.title, 13, 8
	p.X.Label.Text, p.Y.Label.Text = c.x+"\n\n"+caption, c.y
	p.X.Label.TextStyle.Font.Size, p.Y.Label.TextStyle.Font.Size = fontSize, fontSize+1
	p.X.Tick.Label.Font.Size, p.Y.Tick.Label.Font.Size = fontSize, fontSize
	p.X.Label.Padding, p.Y.Label.Padding, p.Legend.XOffs = 8, 4, -4
	for _, f := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		f.Font.Variant = "Sans"
	}
	p.Y.Tick.Marker = plot.TickerFunc(ticks)
	p.Legend.Top, p.Legend.Left, p.Legend.Padding, p.Legend.TextStyle.Font.Size = true, false, 2, fontSize+1
	grid := plotter.NewGrid()
	grid.Vertical.Width, grid.Horizontal.Color = 0, color.Gray{220}
	p.Add(grid)
	var present []int
	for i, s := range palette {
		if c.bars[s.who] != nil {
			present = append(present, i)
		}
	}
	top := 0.0
	if err := c.dashes(p, &top); err != nil {
		return nil, 0, err
	}
	for slot, i := range present {
		who, offset := palette[i].who, vg.Points(barWidth*(float64(slot)-float64(len(present)-1)/2))
		if err := c.series(p, who, palette[i].color, offset, &top); err != nil {
			return nil, 0, err
		}
	}
	p.NominalX(c.groups...)
	p.X.Min, p.X.Max = -0.5, float64(len(c.groups))-0.5
	p.Y.Min, p.Y.Max = 0, top*1.5 // room for the legend
	width := vg.Points(110 + float64(len(c.groups))*max(100, barWidth*(float64(len(present))+1.2)))
	return p, max(width, 20*vg.Centimeter), nil
}

// ticks are five to ten round numbers.
func ticks(low, high float64) (list []plot.Tick) {
	step := math.Pow(10, math.Floor(math.Log10(high-low)))
	for _, part := range []float64{0.1, 0.2, 0.5} {
		if (high-low)/(step*part) <= 10 {
			step *= part
			break
		}
	}
	for i := math.Ceil(low / step); i*step <= high; i++ {
		list = append(list, plot.Tick{Value: i * step, Label: strconv.FormatFloat(i*step, 'g', 4, 64)})
	}
	return list
}

// series adds one contender's bars, with quartiles and numbers.
func (c *chart) series(p *plot.Plot, who string, fill color.Color, offset vg.Length, top *float64) error {
	var values plotter.Values
	var labels plotter.XYLabels
	for i, v := range c.bars[who] {
		if math.IsNaN(v) {
			values = append(values, 0)
			continue
		}
		values = append(values, v)
		high := max(v, c.spreads[who][i].High)
		*top = max(*top, high)
		labels.XYs = append(labels.XYs, plotter.XY{X: float64(i), Y: high})
		labels.Labels = append(labels.Labels, fmt.Sprintf("%.3g", v))
	}
	bars, err := plotter.NewBarChart(values, vg.Points(barWidth-2))
	if err != nil {
		return err
	}
	bars.Color, bars.Offset, bars.LineStyle.Width = fill, offset, 0
	p.Add(bars, quartileLines{c.spreads[who], offset})
	p.Legend.Add(who, bars)
	numbers, err := plotter.NewLabels(labels)
	if err != nil {
		return err
	}
	for i := range numbers.TextStyle {
		numbers.TextStyle[i].Font.Size, numbers.TextStyle[i].Font.Variant, numbers.TextStyle[i].XAlign = fontSize-1, "Sans", draw.XCenter
	}
	numbers.Offset = vg.Point{X: offset, Y: 2}
	p.Add(numbers)
	return nil
}

// dashes adds the bound of each group, or the line at 1.
func (c *chart) dashes(p *plot.Plot, top *float64) error {
	bounds, name := c.bounds, c.bound
	if c.ratio {
		bounds, name = make([]float64, len(c.groups)), "equal"
		for i := range bounds {
			bounds[i] = 1
		}
	}
	named := false
	for i, b := range bounds {
		if math.IsNaN(b) {
			continue
		}
		*top = max(*top, b)
		half := 0.45
		if c.ratio {
			half = 0.5
		}
		line, err := plotter.NewLine(plotter.XYs{{X: float64(i) - half, Y: b}, {X: float64(i) + half, Y: b}})
		if err != nil {
			return err
		}
		line.Color, line.Width, line.Dashes = color.RGBA{225, 120, 120, 255}, vg.Points(1.5), []vg.Length{vg.Points(5), vg.Points(3)}
		p.Add(line)
		if !named {
			p.Legend.Add(name, line)
			named = true
		}
	}
	return nil
}

// quartileLines draws a vertical line from the lower to the upper quartile on each bar.
type quartileLines struct {
	spreads []spread
	offset  vg.Length
}

// Plot implements plot.Plotter.
func (q quartileLines) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for i, s := range q.spreads {
		if s.High > 0 {
			at := x(float64(i)) + q.offset
			c.StrokeLine2(draw.LineStyle{Color: color.Gray{40}, Width: vg.Points(1)}, at, y(s.Low), at, y(s.High))
		}
	}
}

// save writes the chart as PNG and as SVG.
func (c *chart) save(dir, caption string) error {
	p, width, err := c.drawn(caption)
	if err != nil {
		return err
	}
	height, margin := 11*vg.Centimeter, vg.Points(8)
	for _, kind := range []string{"svg", "png"} {
		var canvas interface {
			vg.CanvasSizer
			io.WriterTo
		} = vgsvg.New(width, height)
		if kind == "png" {
			canvas = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(150))}
		}
		p.Draw(draw.Crop(draw.New(canvas), margin, -margin, margin, -margin))
		var b bytes.Buffer
		if _, err := canvas.WriteTo(&b); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, c.file+"."+kind), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
