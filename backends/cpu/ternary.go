// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

// Activations turns rows into int8 codes: scale = m/127 with m the greatest magnitude of the row, code = x·(127/m) in float64, to the nearest, ties to even.
func (Backend) Activations(_ backends.Kernel, a *backends.Activations) error {
	d, look := a.Dst, patience{cancel: a.Cancel}
	for r := range d.Rows {
		if look.cancelled(d.Cols) {
			return context.Canceled
		}
		x, out := a.X[r*d.Cols:][:d.Cols], d.Codes[r*d.Cols:][:d.Cols]
		m := absMax(x)
		if math.Float32bits(m) >= infBits {
			return nonFinite(backends.OpActivations, a.X, nil)
		}
		if d.Scales[r] = m / 127; m == 0 {
			clear(out)
			continue
		}
		f := 127 / float64(m)
		for i, v := range x {
			out[i] = int8(math.RoundToEven(float64(v) * f))
		}
	}
	return nil
}

// patience looks at a flag once a million values.
type patience struct {
	cancel *atomic.Int32
	values int
}

// cancelled counts so many values that are about to be worked on.
func (p *patience) cancelled(values int) bool {
	if p.values -= values; p.values > 0 {
		return false
	}
	p.values = 1 << 20
	return cancelled(p.cancel)
}

// Recode unpacks a row at a time.
func (Backend) Recode(_ backends.Kernel, a *backends.Recode) error {
	t, bytes := a.To, a.To.Format.RowBytes(a.To.Cols)
	buffer := codeRows.Get().(*[]int8)
	defer codeRows.Put(buffer)
	row, look := room(buffer, t.Cols), patience{cancel: a.Cancel}
	for r := range t.Rows {
		if look.cancelled(t.Cols) {
			return context.Canceled
		}
		if t.Format == quant.Int8 {
			a.From.UnpackRow(t.Codes[r*t.Cols:][:t.Cols], r)
			continue
		}
		a.From.UnpackRow(row, r)
		quant.PackRow(t.Packed[r*bytes:][:bytes], row, t.Format)
	}
	return nil
}

// room returns n codes of a buffer, which it makes larger when they do not fit.
func room(buffer *[]int8, n int) []int8 {
	if cap(*buffer) < n {
		*buffer = make([]int8, n)
	}
	return (*buffer)[:n]
}

var codeRows = sync.Pool{New: func() any { return new([]int8) }}

// Ternary multiplies by unpacking a row at a time. Sums within a group are of integers, those of groups in float64.
func (Backend) Ternary(_ backends.Kernel, a *backends.Ternary) error {
	w, x := a.W, a.X
	unit, group, groups := 1.0, w.Group, 1
	if w.Levels == quant.Quinary {
		unit = 0.5
	}
	if group == 0 {
		group = w.Cols
	} else {
		groups = (w.Cols-1)/group + 1
	}
	buffer := codeRows.Get().(*[]int8)
	defer codeRows.Put(buffer)
	row := room(buffer, w.Cols)
	look := patience{cancel: a.Cancel}
	for r := range w.Rows {
		w.UnpackRow(row, r)
		scales := w.Scales
		if w.Group > 0 {
			scales = scales[r*groups:][:groups]
		}
		for b := range x.Rows {
			if look.cancelled(w.Cols) {
				return context.Canceled
			}
			codes, v := x.Codes[b*x.Cols:][:x.Cols], 0.0
			for g, s := range scales {
				from, to := g*group, min((g+1)*group, w.Cols)
				v += float64(float64(integers(row[from:to], codes[from:to])) * float64(s))
			}
			a.Out[b*w.Rows+r] = float32(float64(v*unit) * float64(x.Scales[b]))
		}
	}
	return nil
}

// integers is Σ x·y.
func integers(x, y []int8) int64 {
	var sum int64
	for len(x) > 0 {
		n := min(len(x), 1<<16)
		var a, b, c, d int32
		p, q := x[:n], y[:n]
		for ; len(p) >= 4 && len(q) >= 4; p, q = p[4:], q[4:] {
			a += int32(p[0]) * int32(q[0])
			b += int32(p[1]) * int32(q[1])
			c += int32(p[2]) * int32(q[2])
			d += int32(p[3]) * int32(q[3])
		}
		for i, v := range p {
			a += int32(v) * int32(q[i])
		}
		sum += int64(a) + int64(b) + int64(c) + int64(d)
		x, y = x[n:], y[n:]
	}
	return sum
}
