// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
)

// draft is a router in the making: what changes of one op is copied once, however many cells change.
type draft struct {
	*Router
	op    backends.Op
	mine  uint64             // arms whose models and rows are copies
	rows  [numVariant]uint64 // of which variants
	own   bool               // the router is a copy
	other uint64             // variants of which what the arms have in common is a copy
}

// edit makes the router a copy.
func (d *draft) edit() {
	if !d.own {
		c := *d.Router
		d.Router, d.own = &c, true
		c.models[d.op], c.entries[d.op] = slices.Clone(c.models[d.op]), slices.Clone(c.entries[d.op])
	}
}

// put puts a cell into the model of one arm. A variant that the model has no cells of keeps those that stood in for it, so that one measured size does not speak for all.
func (d *draft) put(arm int, cell Cell) {
	d.edit()
	m, e := &d.models[d.op][arm], &d.entries[d.op][arm]
	cells, own := m.measured(cell.Variant)
	if d.mine&(1<<arm) == 0 {
		m.Cells = append(make([]Cell, 0, len(m.Cells)+len(nearby)+1), m.Cells...)
		d.mine |= 1 << arm
	}
	if !own {
		for _, x := range cells {
			x.Variant, x.Spread = cell.Variant, min(unmeasured, math.Hypot(x.Spread, borrowed))
			m.put(x, false)
		}
		m.put(cell, true)
		*e = newEntry(m, e.from, e.beside)
		d.rows[cell.Variant] |= 1 << arm
		return
	}
	m.put(cell, true)
	cells, _ = m.measured(cell.Variant)
	old := e.rows[cell.Variant]
	now := old
	if d.rows[cell.Variant]&(1<<arm) == 0 {
		now = new(row)
		*now = *old
		for v := range e.rows { // variants that this one stands in for share its row
			if e.rows[v] == old {
				e.rows[v] = now
			}
		}
		d.rows[cell.Variant] |= 1 << arm
	}
	at := slices.IndexFunc(cells, func(c Cell) bool { return c.Class == cell.Class })
	now.fill(cells, max(at-1, 0), min(at+1, len(cells)-1))
}

// replace gives an arm another model.
func (d *draft) replace(arm int, m Model) {
	d.edit()
	e := &d.entries[d.op][arm]
	d.models[d.op][arm] = Model{m.Coef, slices.Clone(m.Cells)}
	*e = newEntry(&d.models[d.op][arm], e.from, e.beside)
}

// missing tells whether what the arms have in common has no cell at a cell's place.
func (d *draft) missing(c Cell) bool {
	if d.common[d.op] == nil {
		return true
	}
	_, there := find(d.common[d.op][c.Variant].cells, c)
	return !there
}

// putCommon puts a cell into what the arms have in common, and returns how many cells that has more then.
func (d *draft) putCommon(cell Cell) (added int) {
	d.edit()
	if d.other == 0 {
		if d.common[d.op] = slices.Clone(d.common[d.op]); d.common[d.op] == nil {
			d.common[d.op] = make([]common, numVariant)
		}
	}
	c := &d.common[d.op][cell.Variant]
	if d.other&(1<<cell.Variant) == 0 {
		d.other |= 1 << cell.Variant
		factors := new(row)
		if c.row != nil {
			*factors = *c.row
		}
		c.cells, c.row = append(make([]Cell, 0, len(c.cells)+len(nearby)+1), c.cells...), factors
	}
	m, before := Model{Cells: c.cells}, len(c.cells)
	m.put(cell, true)
	c.cells = m.Cells
	at := slices.IndexFunc(c.cells, func(x Cell) bool { return x.Class == cell.Class })
	c.row.fill(c.cells, max(at-1, 0), min(at+1, len(c.cells)-1))
	return len(c.cells) - before
}
