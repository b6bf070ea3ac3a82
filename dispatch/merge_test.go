// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/setun-compute/setun/backends"
)

// TestMerge walks through who wins where: what only one changed is taken, what both changed becomes the mean by calls, what was measured anew stays.
func TestMerge(t *testing.T) {
	arm := func(kernel string) Arm { return Arm{Backend: "b", Kernel: kernel} }
	profile := func(models map[string]Model) *Profile {
		p := &Profile{}
		for _, k := range []string{"a", "anew", "new"} {
			if m, ok := models[k]; ok {
				p.Set(backends.OpNorm2, arm(k), m)
			}
		}
		return p
	}
	cell := func(class int, log float64, samples int) Cell {
		return Cell{Class: class, Log: log, Spread: 0.3, Samples: samples}
	}
	c := Coef{100, 1}
	base := profile(map[string]Model{"a": {c, []Cell{cell(4, 0, 5), cell(8, 0, 5), cell(12, 0, 5), cell(16, 0, 5)}}, "anew": {c, []Cell{cell(4, 0, 5)}}})
	disk := profile(map[string]Model{"a": {c, []Cell{cell(4, 0, 5), cell(8, 1, 10), cell(12, 1, 10), cell(16, 0, 5)}}, "anew": {Coef{90, 1}, []Cell{cell(4, 0, 5)}}})
	learned := profile(map[string]Model{"a": {c, []Cell{cell(4, 0.5, 20), cell(8, 0, 5), cell(12, 0.5, 30), cell(16, 0, 5), cell(20, 0.7, 9)}}, "anew": {c, []Cell{cell(4, 3, 20)}}, "new": {c, []Cell{cell(4, 0.2, 3)}}}).Models
	disk.Merge(learned, base)
	both := cell(12, (30*0.5+10*1)/40., 30)
	both.Spread = 1 - both.Log
	want := profile(map[string]Model{"a": {c, []Cell{cell(4, 0.5, 20), cell(8, 1, 10), both, cell(16, 0, 5), cell(20, 0.7, 9)}}, "anew": {Coef{90, 1}, []Cell{cell(4, 0, 5)}}, "new": {c, []Cell{cell(4, 0.2, 3)}}})
	if d := cmp.Diff(want, disk); d != "" {
		t.Error(d)
	}
	if _, err := disk.Encode(); err != nil {
		t.Error(err)
	}
	// A full profile stays readable.
	full := &Profile{}
	for i := range maxModels {
		var cells []Cell
		for class := range maxCells / maxModels {
			cells = append(cells, cell(class, 0, 1))
		}
		full.Set(backends.OpNorm2, Arm{Backend: "b", Kernel: string(rune('a'+i%26)) + string(rune('a'+i/26))}, Model{c, cells})
	}
	full.Merge(append(learned, Entry{"norm2", "b", "aa", Model{c, []Cell{cell(100, 0, 1)}}}), nil)
	if _, err := full.Encode(); err != nil {
		t.Error(err)
	}
}
