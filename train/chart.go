// SPDX-License-Identifier: Apache-2.0

package train

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// curve is a line of a chart. Points that are not finite leave a gap.
type curve struct {
	name, class string // class: a colour of the style sheet
	x, y        []float64
	dots        bool // points are marked, as there are few
}

// chart is a picture of curves over the steps.
type chart struct {
	title  string
	curves []curve
	zero   bool // the axis begins at 0
}

const (
	chartWide, chartHigh     = 640.0, 260.0
	left, right, top, bottom = 56.0, 12.0, 14.0, 34.0
)

// svg draws the chart: axes with round numbers, a line a curve, its name beside the last point's height in a legend.
func (c *chart) svg() template.HTML {
	lowX, highX, lowY, highY := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, l := range c.curves {
		for i, x := range l.x {
			if y := l.y[i]; y-y == 0 {
				lowX, highX, lowY, highY = min(lowX, x), max(highX, x), min(lowY, y), max(highY, y)
			}
		}
	}
	if c.zero {
		lowY = min(lowY, 0)
	}
	if !(highX > lowX) {
		highX = lowX + 1
	}
	if !(highY-lowY > 1e-6*max(math.Abs(lowY), math.Abs(highY))) { // one value, but for rounding
		highY = lowY + max(1, math.Abs(lowY)/10)
	}
	if math.IsInf(lowX, 0) {
		return template.HTML(`<p class="none">nothing to draw</p>`)
	}
	ticks := marks(lowY, highY, 5)
	lowY, highY = min(lowY, ticks[0]), max(highY, ticks[len(ticks)-1])
	px := func(x float64) float64 { return left + (x-lowX)/(highX-lowX)*(chartWide-left-right) }
	py := func(y float64) float64 {
		return chartHigh - bottom - (y-lowY)/(highY-lowY)*(chartHigh-top-bottom)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, chartWide, chartHigh, template.HTMLEscapeString(c.title))
	for _, y := range ticks {
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="tick" x="%.1f" y="%.1f" text-anchor="end">%s</text>`, left, chartWide-right, py(y), py(y), left-6, py(y)+4, number(y))
	}
	for _, x := range marks(lowX, highX, 6) {
		if x < lowX || x > highX {
			continue
		}
		fmt.Fprintf(&b, `<text class="tick" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, px(x), chartHigh-bottom+16, number(x))
	}
	fmt.Fprintf(&b, `<text class="tick" x="%.1f" y="%.1f" text-anchor="end">step</text>`, chartWide-right, chartHigh-4)
	for _, l := range c.curves {
		var path strings.Builder
		pen := "M"
		for i, x := range l.x {
			if l.y[i]-l.y[i] != 0 {
				pen = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", pen, px(x), py(l.y[i]))
			pen = "L"
			if l.dots {
				fmt.Fprintf(&b, `<circle class="%s" cx="%.1f" cy="%.1f" r="3"/>`, l.class, px(x), py(l.y[i]))
			}
		}
		fmt.Fprintf(&b, `<path class="%s" d="%s"/>`, l.class, path.String())
	}
	for i, l := range c.curves {
		y := top + 6 + 16*float64(i)
		fmt.Fprintf(&b, `<line class="%s" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="name" x="%.1f" y="%.1f" text-anchor="end">%s</text>`, l.class, chartWide-right-20, chartWide-right, y, y, chartWide-right-26, y+4, template.HTMLEscapeString(l.name))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// marks are some round numbers that cover low to high, which are a millionth of their magnitude apart at least.
func marks(low, high float64, about int) (list []float64) {
	step := math.Abs(high-low) / float64(about)
	unit := 1.0
	for ; unit*10 <= step; unit *= 10 {
	}
	for ; unit > step; unit /= 10 {
	}
	for _, f := range []float64{1, 2, 5, 10} {
		if unit*f >= step {
			step = unit * f
			break
		}
	}
	for i := math.Floor(low / step); i*step < high+step; i++ {
		list = append(list, i*step)
	}
	return list
}

// number prints a tick.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return fmt.Sprintf("%gM", math.Round(v/1e4)/100)
	case a >= 1e4:
		return fmt.Sprintf("%gk", math.Round(v/10)/100)
	case a < 1e-9:
		return "0"
	case a < 1e-4:
		return fmt.Sprintf("%.1e", v)
	}
	return fmt.Sprintf("%.4g", v)
}

// smooth is the exponential average of a curve over about so many points, corrected for its start.
func smooth(y []float64, over float64) []float64 {
	out := make([]float64, len(y))
	sum, weight := 0.0, 0.0
	for i, v := range y {
		if v-v == 0 {
			sum += (v - sum) / over
			weight += (1 - weight) / over
		}
		out[i] = sum / weight
	}
	return out
}
