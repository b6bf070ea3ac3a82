// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/runtime"
)

// hues are Okabe and Ito's, which colour-blind people tell apart.
var hues = []color.RGBA{{90, 90, 90, 255}, {0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {230, 159, 0, 255}, {86, 180, 233, 255}, {0, 0, 0, 255}}

const (
	tileWidth  = 6.2 * vg.Inch
	tileHeight = 4.4 * vg.Inch
	tileColumn = 2
	pngDots    = 110 // an inch
)

// plotCurves draws, for each op, what every arm is predicted to take from small to large, what was measured, and where the fastest arm changes.
func plotCurves(path string, rt *runtime.Runtime, ops []backends.Op) error {
	columns := min(tileColumn, len(ops))
	rows := (len(ops) + columns - 1) / columns
	width, height := tileWidth*vg.Length(columns), tileHeight*vg.Length(rows)+0.35*vg.Inch
	var canvas vg.CanvasWriterTo
	switch filepath.Ext(path) {
	case ".svg":
		canvas = vgsvg.New(width, height)
	case ".png":
		canvas = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(pngDots))}
	default:
		return exit{exitUsage, fmt.Sprintf("--plot %q: the name ends neither in .svg nor in .png", path)}
	}
	c := draw.New(canvas)
	c.FillPolygon(color.White, []vg.Point{c.Min, {X: c.Max.X, Y: c.Min.Y}, c.Max, {X: c.Min.X, Y: c.Max.Y}})
	m := rt.Report().Machine
	state := "prior knowledge: nothing was measured"
	if rt.Report().Profile.State == "loaded" {
		state = "lines: predictions; dots: size classes that were measured"
	}
	caption := plot.New().Title.TextStyle
	caption.Font.Size, caption.Font.Variant = 10, "Sans"
	if columns == 1 {
		caption.Font.Size = 7.5
	}
	caption.XAlign = draw.XCenter
	c.FillText(caption, vg.Point{X: c.Center().X, Y: c.Max.Y - 0.25*vg.Inch}, fmt.Sprintf("%s, %d cores. %s; shaded: where a crossing lies with 95 %% confidence", m.CPU, m.Cores, state))
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: 0.3 * vg.Inch, PadY: 0.25 * vg.Inch, PadTop: 0.45 * vg.Inch, PadLeft: 0.1 * vg.Inch, PadRight: 0.2 * vg.Inch, PadBottom: 0.1 * vg.Inch}
	for i, op := range ops {
		p, err := opPlot(rt, op)
		if err != nil {
			return err
		}
		p.Draw(tiles.At(c, i%columns, i/columns))
	}
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	return durable.Write(path, 0o644, func(w io.Writer) error { _, err := w.Write(b.Bytes()); return err })
}

// span is the sizes that an op is drawn over.
func span(op backends.Op) (from, to int64, label string) {
	switch op {
	case backends.OpKMeans:
		return 64, 1 << 20, "points of 64 values, 64 clusters"
	case backends.OpMatMul:
		return 8, 4096, "rows and columns of square matrices"
	case backends.OpTernary:
		return 8, 16_384, "rows and columns of square matrices of 2-bit codes, one row of activations"
	}
	return 16, 1 << 26, "values"
}

func opPlot(rt *runtime.Runtime, op backends.Op) (*plot.Plot, error) {
	r := rt.Router()
	from, to, label := span(op)
	p := plot.New()
	p.Title.Text = op.String()
	p.X.Label.Text, p.Y.Label.Text = label, "time of a call"
	if op == backends.OpKMeans {
		p.Y.Label.Text = "time of an iteration"
	}
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = decades(sizeLabel), decades(timeLabel)
	p.Title.Padding = vg.Points(6)
	p.Title.TextStyle.Font.Size = 13
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.YOffs = true, true, vg.Points(8), -vg.Points(26)
	p.Legend.TextStyle.Font.Size = 9
	p.Legend.Padding = 1.5
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{228}, color.Gray{228}
	p.Add(grid)
	lowest, highest := math.Inf(1), 0.0
	arms := r.Arms(op)
	for i := range arms {
		for _, x := range r.Curve(op, i, from, to) {
			lowest, highest = min(lowest, x.Nanos), max(highest, x.Nanos)
		}
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = float64(from), float64(to), lowest/1.5, highest*1.5
	for _, t := range r.Thresholds(op)[1:] {
		low, high := float64(t.Low), float64(t.High)
		if t.Low == 0 {
			low = float64(from)
		}
		if t.High == 0 {
			high = float64(to)
		}
		low, high = max(low, float64(from)), min(high, float64(to))
		if low >= high || t.From > to || t.From < from || t.Low == 0 && t.High == 0 {
			continue
		}
		band, err := plotter.NewPolygon(plotter.XYs{{X: low, Y: p.Y.Min}, {X: high, Y: p.Y.Min}, {X: high, Y: p.Y.Max}, {X: low, Y: p.Y.Max}})
		if err != nil {
			return nil, err
		}
		band.Color, band.LineStyle.Width = color.RGBA{240, 240, 225, 255}, 0
		p.Add(band)
	}
	for _, t := range r.Thresholds(op)[1:] {
		if t.From > to || t.From < from {
			continue
		}
		line, err := plotter.NewLine(plotter.XYs{{X: float64(t.From), Y: p.Y.Min}, {X: float64(t.From), Y: p.Y.Max}})
		if err != nil {
			return nil, err
		}
		line.Color, line.Dashes = color.Gray{120}, []vg.Length{vg.Points(4), vg.Points(3)}
		name, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: float64(t.From), Y: p.Y.Min * 1.3}}, Labels: []string{t.Arm + " from " + strconv.FormatInt(t.From, 10)}})
		if err != nil {
			return nil, err
		}
		name.TextStyle[0].Font.Size, name.TextStyle[0].Font.Variant = 8, "Sans"
		name.TextStyle[0].Rotation = math.Pi / 2
		name.Offset = vg.Point{X: vg.Points(9)}
		p.Add(line, name)
	}
	for i, a := range arms {
		var curve, dots plotter.XYs
		for _, x := range r.Curve(op, i, from, to) {
			curve = append(curve, plotter.XY{X: float64(x.Size), Y: x.Nanos})
		}
		for _, x := range r.Measured(op, i) {
			if x.Size >= from && x.Size <= to {
				dots = append(dots, plotter.XY{X: float64(x.Size), Y: x.Nanos})
			}
		}
		line, err := plotter.NewLine(curve)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = hues[i%len(hues)], vg.Points(1.6)
		if a.Threads > 1 {
			line.Dashes = []vg.Length{vg.Points(6), vg.Points(2)}
		}
		p.Add(line)
		p.Legend.Add(a.String(), line)
		if len(dots) == 0 {
			continue
		}
		points, err := plotter.NewScatter(dots)
		if err != nil {
			return nil, err
		}
		points.Color, points.Radius, points.Shape = hues[i%len(hues)], vg.Points(2.2), draw.CircleGlyph{}
		p.Add(points)
	}
	return p, nil
}

// decades puts a tick at each power of ten, with a label.
type decades func(float64) string

// Ticks implements plot.Ticker.
func (d decades) Ticks(low, high float64) []plot.Tick {
	var list []plot.Tick
	for e := math.Floor(math.Log10(low)); e <= math.Ceil(math.Log10(high)); e++ {
		for m := 1.0; m < 10; m++ {
			if v := m * math.Pow(10, e); v >= low && v <= high {
				t := plot.Tick{Value: v}
				if m == 1 {
					t.Label = d(v)
				}
				list = append(list, t)
			}
		}
	}
	return list
}

func sizeLabel(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + " M"
	case v >= 1e3:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + " k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

func timeLabel(ns float64) string {
	for _, u := range []struct {
		name string
		ns   float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if ns >= u.ns {
			return strconv.FormatFloat(ns/u.ns, 'g', 4, 64) + " " + u.name
		}
	}
	return strconv.FormatFloat(ns, 'g', 4, 64) + " ns"
}
