// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"maps"
	"math"
	"math/bits"
	"slices"

	"github.com/setun-compute/setun/dispatch"
)

// Constants of StarPU's performance models (src/core/perfmodel at commit 3f3cc82).
const (
	starpuTrusted = 10  // samples below which an entry is not believed (STARPU_CALIBRATE_MINIMUM)
	starpuError   = 1.5 // a sample that is further from the mean is not averaged in (STARPU_HISTORY_MAX_ERROR, 50 %)
	starpuNear    = 2.  // a point closer to the constant than this counts nothing,
	starpuFar     = 3.  // from this on fully
	starpuStep    = 1.05
)

// StarPU decides as StarPU's scheduler dmda does for tasks that wait for nobody and move no data: the lowest expected time, and an arm whose time is not known before all others. Expected times are
// the history of just that shape after ten samples, the first of which is thrown away; else the curve a·n^b + c over all sizes, after ten samples and between 0.9 of the smallest and 1.1 of the largest.
// StarPU itself fits that curve when a program ends; here it is fitted whenever the samples have doubled, which is kinder.
type StarPU struct {
	arms    func(s *dispatch.Shape) uint64 // those that may run it
	entries map[entryKey]*entry
	curves  map[curveKey]*curve
}

type entryKey struct {
	shape dispatch.Shape
	arm   int
}

type curveKey struct {
	op      string
	variant dispatch.Variant
	arm     int
}

// entry is the history of one shape on one arm.
type entry struct {
	seen      bool // the first sample
	n, errors int
	sum       float64
}

func (e *entry) mean() float64 { return e.sum / float64(e.n) }

// NewStarPU starts without history. arms returns a bit mask of the arms that may run a shape.
func NewStarPU(arms func(s *dispatch.Shape) uint64) *StarPU {
	return &StarPU{arms, map[entryKey]*entry{}, map[curveKey]*curve{}}
}

// Choose takes the arm with the lowest expected time, or the first of those about whose time least is known.
func (p *StarPU) Choose(s *dispatch.Shape) (arm int, probe bool) {
	arm, lowest := -1, math.Inf(1)
	unknown, fewest := -1, math.MaxInt
	for i, mask := 0, p.arms(s); mask != 0; i, mask = i+1, mask>>1 {
		if mask&1 == 0 {
			continue
		}
		t, n, known := p.expected(s, i)
		switch {
		case !known && n < fewest:
			unknown, fewest = i, n
		case known && t < lowest:
			arm, lowest = i, t
		}
	}
	if unknown >= 0 {
		return unknown, true
	}
	return arm, false
}

// expected is what the models say of a shape, and how many samples its own entry has.
func (p *StarPU) expected(s *dispatch.Shape, arm int) (nanos float64, samples int, known bool) {
	if e := p.entries[entryKey{*s, arm}]; e != nil {
		if e.n >= starpuTrusted {
			return e.mean(), e.n, true
		}
		samples = e.n
		if e.seen {
			samples++
		}
	}
	if c := p.curves[curveKey{s.Op.String(), s.Variant, arm}]; c != nil {
		if t, ok := c.at(s.Work()); ok {
			return t, samples, true
		}
	}
	return 0, samples, false
}

// Observe puts a call into its history, and into the curve's.
func (p *StarPU) Observe(o dispatch.Observation) {
	ck := curveKey{o.Shape.Op.String(), o.Shape.Variant, o.Arm}
	if p.curves[ck] == nil {
		p.curves[ck] = &curve{points: map[float64]*entry{}}
	}
	p.curves[ck].add(o.Shape.Work(), o.Nanos)
	k := entryKey{o.Shape, o.Arm}
	if p.entries[k] == nil {
		p.entries[k] = &entry{}
	}
	e := p.entries[k]
	if !e.seen {
		e.seen = true
		return
	}
	e.add(o.Nanos)
}

// add averages a sample in, unless it is far from the mean. As many far ones as near ones start the history anew.
func (e *entry) add(nanos float64) {
	if e.n > 0 {
		if m := e.mean(); nanos > starpuError*m || nanos < m/starpuError {
			if e.errors++; e.errors >= e.n {
				*e = entry{seen: true}
			}
			return
		}
	}
	e.n++
	e.sum += nanos
}

// curve is a·n^b + c over the mean times of all sizes.
type curve struct {
	points      map[float64]*entry // by size
	samples     int
	a, b, c     float64
	least, most float64 // sizes
	valid       bool
}

// add puts a sample to its size, and fits the curve when their number has doubled.
func (c *curve) add(work, nanos float64) {
	if c.points[work] == nil {
		c.points[work] = &entry{}
	}
	c.points[work].add(nanos)
	if c.samples++; c.samples >= starpuTrusted && c.samples%starpuTrusted == 0 && bits.OnesCount(uint(c.samples/starpuTrusted)) == 1 {
		c.fit()
	}
}

// at is the curve's value where it is believed.
func (c *curve) at(work float64) (nanos float64, ok bool) {
	if !c.valid || work < 0.9*c.least || work > 1.1*c.most {
		return 0, false
	}
	return c.a*math.Pow(work, c.b) + c.c, true
}

// fit looks for the c that makes ln(t − c) most nearly a line in ln n, and takes a and b by weighted least squares. StarPU looks by bisection between 0 and the lower third of the times, which may go astray; here many are
// tried, and half of the sizes must count.
func (c *curve) fit() {
	var means []float64
	sizes := slices.Sorted(maps.Keys(c.points))
	for _, work := range sizes {
		if e := c.points[work]; e.n > 0 {
			means = append(means, e.mean())
		}
	}
	c.least, c.most = sizes[0], sizes[len(sizes)-1]
	if c.valid = len(means) > 1 && c.least < 0.9*c.most; !c.valid {
		return
	}
	slices.Sort(means)
	off := math.Inf(1)
	for constant := 0.; constant < means[len(means)/3]; constant = max(means[0]/32, constant*starpuStep) {
		if means[len(means)/2] < starpuFar*constant {
			break
		}
		if a, b, r := c.line(sizes, constant); r < off {
			c.a, c.b, c.c, off = a, b, constant, r
		}
	}
	c.valid = !math.IsInf(off, 1)
}

// line is the weighted regression of ln(t − c) on ln n: a, b, and how far their correlation is from 1, +Inf where there is none.
func (c *curve) line(sizes []float64, constant float64) (a, b, off float64) {
	var w, x, y, xx, xy, yy float64
	for _, work := range sizes {
		e := c.points[work]
		if e.n == 0 {
			continue
		}
		weight := float64(e.n)
		if constant > 0 {
			weight *= min(1, max(0, (e.mean()/constant-starpuNear)/(starpuFar-starpuNear)))
		}
		if weight == 0 {
			continue
		}
		u, v := math.Log(work), math.Log(e.mean()-constant)
		w += weight
		x += weight * u
		y += weight * v
		xx += weight * u * u
		xy += weight * u * v
		yy += weight * v * v
	}
	dx, dy := w*xx-x*x, w*yy-y*y
	if !(dx > 1e-9*w*xx) {
		return 0, 0, math.Inf(1)
	}
	b = (w*xy - x*y) / dx
	a = math.Exp((y - b*x) / w)
	if off = math.Abs(1 - (w*xy-x*y)/math.Sqrt(dx*dy)); math.IsNaN(off) {
		off = math.Inf(1)
	}
	return a, b, off
}
