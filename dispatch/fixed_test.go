// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
)

func TestFixedTableDecides(t *testing.T) {
	arms := map[backends.Op][]Arm{backends.OpNorm2: {{Backend: "cpu", Kernel: "go"}, {Backend: "simd_c", Kernel: "avx2"}, {Backend: "simd_c", Kernel: "sse42"}}, backends.OpDot: {{Backend: "cpu", Kernel: "go"}, {Backend: "simd_c", Kernel: "avx2"}}}
	f, err := DecodeFixed([]byte(`{"setun_thresholds":1,"ops":{"norm2":[{"from":0,"kernel":"simd_c/sse42"},{"from":100,"kernel":"cpu/go"},{"from":1000,"kernel":"simd_c"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewRouter(arms, nil, Policy{Fixed: f})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		op       backends.Op
		n        int
		excluded uint64
		arm      int
		reason   Reason
	}{
		{backends.OpNorm2, 1, 0, 2, Listed}, {backends.OpNorm2, 99, 0, 2, Listed}, {backends.OpNorm2, 100, 0, 0, Listed}, {backends.OpNorm2, 999, 0, 0, Listed}, {backends.OpNorm2, 1000, 0, 1, Listed},
		{backends.OpNorm2, 1 << 30, 0, 1, Listed},
		{backends.OpNorm2, 1 << 20, 2, 2, Listed},   // the backend's other kernel
		{backends.OpNorm2, 1 << 20, 6, 0, Fallback}, // what is listed has failed
		{backends.OpDot, 1 << 20, 0, 1, Fastest},    // not in the table
	} {
		s := Vector(c.op, c.n)
		if d := r.Decide(&s, c.excluded); d.Arm != c.arm || c.reason != d.Reason && c.excluded != 6 && c.excluded != 2 {
			t.Errorf("%v %d without %b: %+v, wanted arm %d, %v", c.op, c.n, c.excluded, d, c.arm, c.reason)
		}
	}
	if _, err := NewRouter(arms, nil, Policy{Fixed: &Fixed{Schema: 1, Ops: map[string][]FixedRow{"dot": {{0, "simd_c/sse42"}}}}}); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), "simd_c/sse42") {
		t.Errorf("%v", err)
	}
	// A router's own thresholds, as a table, decide as it does at those sizes.
	own := r.Fixed()
	if err := own.check(); err != nil {
		t.Errorf("%v: %+v", err, own)
	}
}

// TestTableAndMinimum: a kernel that the policy does not admit at a size is not obeyed there, and the call goes elsewhere.
func TestTableAndMinimum(t *testing.T) {
	for _, memory := range []Memory{Host, 1} {
		arms := map[backends.Op][]Arm{backends.OpNorm2: {{Backend: "cpu", Kernel: "go"}, {Backend: "simd_c", Kernel: "avx2", Memory: memory}}}
		f := &Fixed{Schema: 1, Ops: map[string][]FixedRow{"norm2": {{0, "simd_c"}}}}
		r, err := NewRouter(arms, nil, Policy{Fixed: f, From: map[backends.Op]map[string]float64{backends.OpNorm2: {"simd_c": 1000}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			n, arm int
			reason Reason
		}{{10, 0, Only}, {999, 0, Only}, {1000, 1, Listed}} {
			s := Vector(backends.OpNorm2, c.n)
			if d := r.Decide(&s, 0); d.Arm != c.arm || d.Reason != c.reason {
				t.Errorf("%d values: %+v, wanted arm %d, %v", c.n, d, c.arm, c.reason)
			}
			if d := r.DecideAt(&s, nil, 0); d.Arm != c.arm || d.Nanos <= 0 {
				t.Errorf("%d values, where they are: %+v, wanted arm %d", c.n, d, c.arm)
			}
		}
	}
}

func TestDamagedTablesAreRefused(t *testing.T) {
	for _, text := range []string{"", "{", "[]", `{}`, `{"setun_thresholds":2,"ops":{}}`, `{"setun_thresholds":1,"ops":{"add":[{"from":0,"kernel":"cpu"}]}}`, `{"setun_thresholds":1,"ops":{"dot":[]}}`,
		`{"setun_thresholds":1,"ops":{"dot":[{"from":5,"kernel":"cpu"}]}}`, `{"setun_thresholds":1,"ops":{"dot":[{"from":0,"kernel":"cpu"},{"from":0,"kernel":"cpu"}]}}`, `{"setun_thresholds":1,"ops":{"dot":[{"from":-1,"kernel":"cpu"}]}}`,
		`{"setun_thresholds":1,"ops":{"dot":[{"from":0,"kernel":"cpu"},{"from":1e300,"kernel":"cpu"}]}}`, `{"setun_thresholds":1,"ops":{},"more":1}`, `{"setun_thresholds":1,"ops":{}} 1`, strings.Repeat(" ", 1<<17)} {
		if _, err := DecodeFixed([]byte(text)); !errors.Is(err, ErrPolicy) {
			t.Errorf("%.80s: %v", text, err)
		}
	}
}

// FuzzFixed reads tables of thresholds. One that is taken says the same when it is written and read again, and names arms that are there or is refused for them.
func FuzzFixed(f *testing.F) {
	for _, text := range []string{`{"setun_thresholds":1,"ops":{"norm2":[{"from":0,"kernel":"simd_c/sse42"},{"from":100,"kernel":"cpu/go"}]}}`, `{"setun_thresholds":1}`, `{"setun_thresholds":2,"ops":{}}`, `{"setun_thresholds":1,"ops":{"dot":[{"from":5}]}}`,
		`{"setun_thresholds":1,"ops":{"dot":[{"kernel":"cpu"},{"from":1e308}]}}`, `{"setun_thresholds":1,"ops":{"dot":[{"from":-0.0},{"from":5e-324,"kernel":"cpu"}]}} 1`, `null`, ``} {
		f.Add([]byte(text))
	}
	arms := []Arm{{Backend: "cpu", Kernel: "go", Threads: 1}, {Backend: "simd_c", Kernel: "sse42", Threads: 1}}
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := DecodeFixed(data)
		if err != nil {
			if !errors.Is(err, ErrPolicy) {
				t.Fatalf("an error without a sentinel: %v", err)
			}
			return
		}
		text, err := json.Marshal(table)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodeFixed(text); len(text) <= maxFixedBytes && (err != nil || !reflect.DeepEqual(again.Ops, table.Ops) && len(again.Ops)+len(table.Ops) > 0) {
			t.Fatalf("%+v was written as %s and read as %+v, %v", table, text, again, err)
		}
		all := map[backends.Op][]Arm{}
		for _, op := range backends.Ops() {
			all[op] = arms
		}
		router, err := NewRouter(all, nil, Policy{Fixed: table})
		if err != nil {
			if !errors.Is(err, ErrPolicy) {
				t.Fatal(err)
			}
			return
		}
		for _, n := range []int64{1, 1000, 1 << 40} {
			s := Shape{Op: backends.OpNorm2, N: n}
			d := router.Decide(&s, 0)
			for _, row := range table.Ops["norm2"] {
				if float64(n) < row.From {
					break
				}
				if a := arms[d.Arm]; row.Kernel == a.Backend || row.Kernel == a.String() {
					continue
				}
				if last := lastRow(table.Ops["norm2"], float64(n)); last == row {
					t.Fatalf("%d values go to %v, the table has %q", n, arms[d.Arm], row.Kernel)
				}
			}
		}
	})
}

// lastRow is the row for a size.
func lastRow(rows []FixedRow, size float64) (r FixedRow) {
	for _, row := range rows {
		if row.From <= size {
			r = row
		}
	}
	return r
}
