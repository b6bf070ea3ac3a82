// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
)

// UnmarshalJSON reads exactly as many coefficients as there are. Without it encoding/json fills a short list up with zeros, and a
// kernel that lost its coefficients would look free.
func (c *Coef) UnmarshalJSON(data []byte) error {
	var list []float64
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	if len(list) != numFeatures {
		return fmt.Errorf("%d coefficients, wanted %d", len(list), numFeatures)
	}
	copy(c[:], list)
	return nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProfileDamaged, fmt.Sprintf(format, args...))
}

// check holds every number and name against its range. Names are quoted in errors: they come from a file and end on a terminal.
func (p *Profile) check() error {
	for _, text := range []string{p.Fingerprint, p.Machine, p.Created} {
		if !printable(text, maxText) {
			return damaged("the text %.80q is too long or not printable", text)
		}
	}
	if len(p.Models) > maxModels {
		return damaged("%d models, the limit is %d", len(p.Models), maxModels)
	}
	seen, cells := map[[3]string]bool{}, 0
	for _, e := range p.Models {
		if !slices.ContainsFunc(backends.Ops(), func(op backends.Op) bool { return op.String() == e.Op }) {
			return damaged("there is no op %.80q", e.Op)
		}
		if e.Backend == "" || e.Kernel == "" || !printable(e.Backend, maxName) || !printable(e.Kernel, maxName) {
			return damaged("%.80q and %.80q name no kernel", e.Backend, e.Kernel)
		}
		key := [3]string{e.Op, e.Backend, e.Kernel}
		if seen[key] {
			return damaged("%s appears twice", e.name())
		}
		seen[key] = true
		if cells += len(e.Cells); cells > maxCells {
			return damaged("more than %d cells", maxCells)
		}
		if err := e.check(); err != nil {
			return err
		}
	}
	var linked Spaces
	for _, l := range p.Links {
		if l.Memory == Host || l.Memory >= NumMemories || linked.Has(l.Memory) {
			return damaged("a link to memory %d", l.Memory)
		}
		linked |= 1 << l.Memory
		for _, c := range []float64{l.Launch, l.Up, l.Down} {
			if !(c >= 0 && c <= maxCoef) {
				return damaged("the link to memory %d has the coefficient %v", l.Memory, c)
			}
		}
	}
	return nil
}

func (e *Entry) name() string { return e.Op + " " + e.Backend + "/" + e.Kernel }

func (e *Entry) check() error {
	if e.Coef == (Coef{}) {
		return damaged("%s costs nothing", e.name())
	}
	for _, c := range e.Coef {
		if !(c >= 0 && c <= maxCoef) {
			return damaged("%s has the coefficient %v", e.name(), c)
		}
	}
	for i, c := range e.Cells {
		switch {
		case c.Variant >= numVariant, c.Class < 0, c.Class >= numClasses, !(math.Abs(c.Log) <= maxLog),
			!(c.Spread >= 0 && c.Spread <= 10), c.Samples < 0, int64(c.Samples) > 1<<40:
			return damaged("%s has the cell %+v", e.name(), c)
		case i > 0 && (c.Variant < e.Cells[i-1].Variant || c.Variant == e.Cells[i-1].Variant && c.Class <= e.Cells[i-1].Class):
			return damaged("%s has cells out of order", e.name())
		}
	}
	return nil
}

func printable(text string, limit int) bool {
	if len(text) > limit {
		return false
	}
	for _, r := range text {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\uFFFD' {
			return false
		}
	}
	return true
}
