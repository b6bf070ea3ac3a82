// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"cmp"
	"math"
	"slices"
)

const (
	tau     = 0.5  // how large a log correction usually is
	unknown = 0.2  // spread of a call that one further, imagined sample has: nothing is exact after one measurement
	least   = 0.02 // spread that more samples cannot take away
	sweeps  = 5    // of refining
	few     = 3    // samples below which a measurement is held against its neighbours
	window  = 5    // measurements that it is held against, itself among them
	leeway  = 0.5  // log by which it may differ from them in any case: caches end somewhere
)

// cell is a Cell in the making.
type cell struct {
	Cell
	ms        []measurement
	logs      []float64 // log(measured/roofline) of ms
	residuals []float64 // what cells leave of logs
}

// correct turns what the roofline leaves over into cells. Sizes rarely lie in the middle of their class, so the cells are
// fitted to what interpolation between them says, not to the plain mean of each. A measurement moves both cells that it lies between, each by its share
// in the interpolation: moving only the nearer one makes neighbours swing apart on noise. Stopping after a few sweeps smooths further.
func correct(c *Coef, ms []measurement) []Cell {
	var cells []Cell
	for _, part := range byClass(ms, tame(c, ms)) {
		for range sweeps {
			leave(part)
			logs := make([]float64, len(part))
			for i := range part {
				logs[i] = refined(part, i)
			}
			for i := range part {
				part[i].Log = logs[i]
			}
		}
		leave(part)
		for i := range part {
			cells = append(cells, part[i].finish())
		}
	}
	return cells
}

// tame returns log(measured/roofline) of measurements that are sorted by variant and size. One that rests on few samples and lies far from the median of those around it
// is replaced by that median (Hampel's filter): two wild ones in five change nothing, and a step or a slope stays as it is.
func tame(c *Coef, ms []measurement) []float64 {
	logs := make([]float64, len(ms))
	for i, m := range ms {
		f := m.shape.features()
		logs[i] = min(max(math.Log(m.nanos/clamp(c.roofline(&f))), -maxLog), maxLog)
	}
	tamed := slices.Clone(logs)
	for from := 0; from < len(ms); {
		to := from
		for to < len(ms) && ms[to].shape.Variant == ms[from].shape.Variant {
			to++
		}
		for i := from; i < to && to-from >= few; i++ {
			left := max(from, min(i-window/2, to-window))
			middle, spread := centre(logs[left:min(left+window, to)])
			if ms[i].samples < few && math.Abs(logs[i]-middle) > max(leeway, 3*spread) {
				tamed[i] = middle
			}
		}
		from = to
	}
	return tamed
}

// byClass sorts measurements into cells, one list for each variant.
func byClass(ms []measurement, logs []float64) [][]cell {
	var cells []cell
	for j, m := range ms {
		key := Cell{Variant: m.shape.Variant, Class: int(math.Round(perOctave * octaves(m.shape.Work())))}
		i, found := slices.BinarySearchFunc(cells, key, func(a cell, b Cell) int {
			return cmp.Or(cmp.Compare(a.Variant, b.Variant), cmp.Compare(a.Class, b.Class))
		})
		if !found {
			cells = slices.Insert(cells, i, cell{Cell: key})
		}
		cells[i].ms = append(cells[i].ms, m)
		cells[i].logs = append(cells[i].logs, logs[j])
		cells[i].residuals = append(cells[i].residuals, 0)
		cells[i].Samples += m.samples
	}
	var parts [][]cell
	for len(cells) > 0 {
		n := slices.IndexFunc(cells, func(c cell) bool { return c.Variant != cells[0].Variant })
		if n < 0 {
			n = len(cells)
		}
		parts = append(parts, cells[:n:n])
		cells = cells[n:]
	}
	return parts
}

// leave computes what the cells as they are now leave unexplained.
func leave(part []cell) {
	now := make([]Cell, len(part))
	for i := range part {
		now[i] = part[i].Cell
	}
	for _, x := range part {
		for i, m := range x.ms {
			x.residuals[i] = x.logs[i] - at(now, perOctave*octaves(m.shape.Work())).log
		}
	}
}

// refined returns the value of a cell, moved by the mean of the residuals that it has a share in. Those far from their median count as if they were nearer.
func refined(part []cell, i int) float64 {
	var residuals, weights []float64
	for _, x := range part[max(i-1, 0):min(i+2, len(part))] {
		for j, m := range x.ms {
			if w := share(part, i, perOctave*octaves(m.shape.Work())); w > 0 {
				residuals = append(residuals, x.residuals[j])
				weights = append(weights, w*float64(m.samples))
			}
		}
	}
	if len(residuals) == 0 {
		return part[i].Log
	}
	middle, spread := centre(residuals)
	reach := 3 * max(spread, 0.05)
	var sum, weight float64
	for j, r := range residuals {
		sum += weights[j] * min(max(r, middle-reach), middle+reach)
		weight += weights[j]
	}
	return min(max(part[i].Log+sum/weight, -maxLog), maxLog)
}

// share returns the weight of cell i in the interpolation at p.
func share(part []cell, i int, p float64) float64 {
	c, j := float64(part[i].Class), i-1
	if p > c {
		j = i + 1
	}
	if j < 0 || j == len(part) {
		return 1 // beyond the outermost cell
	}
	return max(0, 1-(p-c)/(float64(part[j].Class)-c))
}

// finish shrinks a cell and gives it its spread: that between calls of one shape together with that between shapes of the class.
func (x *cell) finish() Cell {
	var within float64
	for _, m := range x.ms {
		within += float64(m.samples) * m.spread * m.spread
	}
	n := float64(x.Samples)
	_, between := centre(x.residuals)
	variance := (within+unknown*unknown)/(n+1) + between*between
	x.Log *= tau * tau / (tau*tau + variance/n)
	x.Spread = min(unmeasured, max(least, math.Sqrt(variance)))
	return x.Cell
}

// centre returns the median and a standard deviation made from the median absolute deviation: half of the values may be wild.
func centre(v []float64) (middle, spread float64) {
	var small [remembered]float64 // a learner's cell allocates nothing
	s := append(small[:0], v...)
	middle = sorted(s)
	for i, x := range s {
		s[i] = math.Abs(x - middle)
	}
	// 1.4826 turns a median absolute deviation into a standard deviation of normal errors.
	return middle, 1.4826 * sorted(s)
}

func median(v []float64) float64 { return sorted(slices.Clone(v)) }

// sorted sorts and returns the median.
func sorted(s []float64) float64 {
	slices.Sort(s)
	if n := len(s); n%2 == 0 {
		return s[n/2-1]/2 + s[n/2]/2
	}
	return s[len(s)/2]
}
