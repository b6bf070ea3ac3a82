// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/setun-compute/setun/backends"
)

// FixedSchema is the version of the format of Fixed.
const FixedSchema = 1

const (
	maxFixedBytes = 1 << 16
	maxFixedRows  = 64 // of an op
)

// Fixed is a table that decides instead of predictions: for each op which kernel runs from which size on. Ops that it does not have are decided by prediction.
type Fixed struct {
	Schema  int                   `json:"setun_thresholds"`
	Machine string                `json:"machine,omitempty"` // for people
	Ops     map[string][]FixedRow `json:"ops"`
}

// FixedRow says that a kernel is to run from a size on, until the next row's. Sizes are those of Shape.Work: values, or multiply-adds for kmeans (of an iteration) and matmul.
type FixedRow struct {
	From   float64 `json:"from"`
	Kernel string  `json:"kernel"` // "simd_c/avx2", or "simd_c" for the fastest of a backend by prediction
}

// Fixed returns the router's thresholds as a fixed table.
func (r *Router) Fixed() *Fixed {
	f := &Fixed{Schema: FixedSchema, Ops: map[string][]FixedRow{}}
	for _, op := range backends.Ops() {
		for i, t := range r.Thresholds(op) {
			s := canonical(op, t.From)
			from := s.Work()
			if i == 0 {
				from = 0
			}
			f.Ops[op.String()] = append(f.Ops[op.String()], FixedRow{from, t.Arm})
		}
	}
	return f
}

// DecodeFixed reads a fixed table. Errors wrap ErrPolicy and say what is wrong where.
func DecodeFixed(data []byte) (*Fixed, error) {
	if len(data) > maxFixedBytes {
		return nil, fmt.Errorf("%w: thresholds of %d bytes, the limit is %d", ErrPolicy, len(data), maxFixedBytes)
	}
	f := new(Fixed)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(f); err != nil {
		return nil, fmt.Errorf("%w: thresholds: %v", ErrPolicy, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows the thresholds", ErrPolicy)
	}
	return f, f.check()
}

func (f *Fixed) check() error {
	if f == nil {
		return nil
	}
	if f.Schema != FixedSchema {
		return fmt.Errorf("%w: thresholds of version %d, wanted %d", ErrPolicy, f.Schema, FixedSchema)
	}
	for op, rows := range f.Ops {
		if !slices.ContainsFunc(backends.Ops(), func(o backends.Op) bool { return o.String() == op }) {
			return fmt.Errorf("%w: thresholds for the op %.80q, which is not known", ErrPolicy, op)
		}
		if len(rows) == 0 || len(rows) > maxFixedRows || rows[0].From != 0 {
			return fmt.Errorf("%w: thresholds for %s: %d rows, 1 to %d are wanted, the first from size 0", ErrPolicy, op, len(rows), maxFixedRows)
		}
		for i, row := range rows {
			if !(row.From >= 0 && row.From <= maxNanos) || i > 0 && row.From <= rows[i-1].From {
				return fmt.Errorf("%w: thresholds for %s: size %v in row %d; sizes rise", ErrPolicy, op, row.From, i+1)
			}
		}
	}
	return nil
}

// fixedRow is a row as Decide sees it.
type fixedRow struct {
	from float64
	mask uint64 // of arms
}

// rows turns an op's rows into masks of its arms.
func (f *Fixed) rows(op backends.Op, arms []Arm) ([]fixedRow, error) {
	if f == nil {
		return nil, nil
	}
	var list []fixedRow
	for _, row := range f.Ops[op.String()] {
		mask := uint64(0)
		for i, a := range arms {
			if row.Kernel == a.Backend || row.Kernel == a.String() {
				mask |= 1 << i
			}
		}
		if mask == 0 {
			return nil, fmt.Errorf("%w: thresholds name %.80q for %v; there are %s", ErrPolicy, row.Kernel, op, names(map[backends.Op][]Arm{op: arms}))
		}
		list = append(list, fixedRow{row.From, mask})
	}
	return list, nil
}

// narrow leaves of some arms those that a table lists for a size, if one of them may run: it is there, and the policy admits it at that size.
func (r *Router) narrow(op backends.Op, open uint64, work float64) (left uint64, named bool) {
	mask := open & listed(r.fixed[op], work)
	for i := range r.entries[op] {
		if mask&(1<<i) != 0 && r.entries[op][i].from <= work {
			return mask, true
		}
	}
	return open, false
}

// listed is the mask of the arms that a table has for a size; all if there is none.
func listed(rows []fixedRow, work float64) uint64 {
	mask := ^uint64(0)
	for i := range rows {
		if work < rows[i].from {
			break
		}
		mask = rows[i].mask
	}
	return mask
}
