// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"cmp"
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
)

const (
	// remembrance is the least spread of a cell that was learned and saved: the machine may have been in some other state.
	remembrance = 0.25
	// weighty is how many calls a cell counts for at most when it is merged with another process's.
	weighty = 64
)

// Learned returns the models of the arms that were observed, as the latest router has them. What all arms had in common is left out: it passes.
func (l *Learner) Learned() []Entry {
	var list []Entry
	for op, arms := range l.arms {
		for i, m := range arms {
			if slices.ContainsFunc(m.recent[:], func(r []recent) bool { return len(r) > 0 }) {
				a := l.router.arms[op][i]
				list = append(list, Entry{backends.Op(op).String(), a.Backend, a.Kernel, Model{l.router.models[op][i].Coef, slices.Clone(l.router.models[op][i].Cells)}})
			}
		}
	}
	return list
}

// Merge puts what was learned, since base was loaded, into a profile that others may have changed in the meantime. base is nil for prior knowledge. Where both changed a cell it becomes their mean, by the calls that each counts for.
// A model that was measured anew is left as it is. The profile keeps its limits: cells beyond them are left out.
func (p *Profile) Merge(learned []Entry, base *Profile) {
	room := maxCells
	for _, e := range p.Models {
		room -= len(e.Cells)
	}
	for _, e := range learned {
		i := slices.IndexFunc(p.Models, func(x Entry) bool { return x.Op == e.Op && x.Backend == e.Backend && x.Kernel == e.Kernel })
		if i < 0 {
			if len(p.Models) >= maxModels {
				continue
			}
			i = len(p.Models)
			p.Models = append(p.Models, Entry{e.Op, e.Backend, e.Kernel, Model{Coef: e.Coef}})
		}
		m := &p.Models[i].Model
		if m.Coef != e.Coef {
			continue
		}
		m.Cells = slices.Clone(m.Cells)
		var before []Cell
		if base != nil {
			if j := slices.IndexFunc(base.Models, func(x Entry) bool { return x.Op == e.Op && x.Backend == e.Backend && x.Kernel == e.Kernel }); j >= 0 {
				before = base.Models[j].Cells
			}
		}
		for _, c := range e.Cells {
			was, had := find(before, c)
			if had && was == c {
				continue
			}
			now, there := find(m.Cells, c)
			if !there && room == 0 {
				continue
			}
			c.Spread = max(c.Spread, remembrance)
			if there && !(had && now == was) {
				a, b := float64(min(c.Samples, weighty)), float64(min(now.Samples, weighty))
				if a+b > 0 {
					c.Log = (a*c.Log + b*now.Log) / (a + b)
					c.Spread = max(c.Spread, now.Spread, math.Abs(c.Log-now.Log))
					c.Samples = max(c.Samples, now.Samples)
				}
			}
			if !there {
				room--
			}
			m.put(c, true)
		}
	}
}

// find returns the cell at another's place.
func find(cells []Cell, c Cell) (Cell, bool) {
	i, found := slices.BinarySearchFunc(cells, c, func(a, b Cell) int {
		return cmp.Or(int(a.Variant)-int(b.Variant), a.Class-b.Class)
	})
	if !found {
		return Cell{}, false
	}
	return cells[i], true
}
