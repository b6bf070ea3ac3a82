// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/gguf"
	"github.com/setun-compute/setun/quant/plan"
	"github.com/setun-compute/setun/quant/stn"
)

const (
	sampled  = 1 << 19 // values of a tensor that candidates are measured on
	attempts = 5       // to meet a budget exactly, since a sample does not tell the last byte
)

// within measures ways to store each matrix, chooses among them, writes, and looks whether the file keeps the budget; where the estimates were a little too low it chooses again with that much less.
func (j *job) within(ctx context.Context) (*plan.Plan, error) {
	var measured []plan.Tensor
	var which []int
	for i := range j.list {
		if j.choices[i].kind != plan.Quantized {
			continue
		}
		m, err := j.measure(ctx, i)
		if err != nil {
			return nil, err
		}
		measured, which = append(measured, *m), append(which, i)
	}
	if len(measured) == 0 {
		return nil, fmt.Errorf("%s: no tensor is to be quantized, so there is nothing to choose", j.o.in)
	}
	limit := j.o.bytes
	if j.o.ratio > 0 {
		limit = int64(float64(j.floats()) / j.o.ratio)
	}
	extra := j.overhead()
	wanted := j.o.maxError
	var least *plan.InfeasibleError
	for range attempts {
		b := plan.Budget{RelativeError: wanted}
		if limit > 0 {
			b = plan.Budget{Bytes: max(1, limit-extra)}
		}
		chosen, err := plan.Solve(measured, b)
		if errors.As(err, &least) {
			if limit > 0 {
				return nil, fmt.Errorf("%s: a file of %d bytes is too small a budget: the least possible is about %d", j.o.in, limit, least.Least.Bytes+extra)
			}
			return nil, fmt.Errorf("%s: a relative error of %.4g is too small a budget: the least possible is about %.4g", j.o.in, j.o.maxError, least.Least.RelativeError)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", j.o.in, err)
		}
		for k, i := range which {
			j.take(i, chosen.Choices[k].Candidate)
		}
		if err := j.write(ctx); err != nil {
			return nil, err
		}
		size, err := j.fileSize()
		if err != nil {
			return nil, err
		}
		if limit > 0 && size > limit {
			extra = max(size-chosen.Bytes, extra+size-limit) + limit/100000
			continue
		}
		if e := j.relative(which, measured, chosen); wanted > 0 && e > j.o.maxError {
			wanted *= j.o.maxError / e * 0.9999
			continue
		}
		return chosen, nil
	}
	return nil, fmt.Errorf("%s: the budget was missed %d times by a little; ask for one that is a part in a hundred larger", j.o.in, attempts)
}

// measure reads a sample of a tensor's rows, and measures the candidates that the flags allow.
func (j *job) measure(ctx context.Context, i int) (*plan.Tensor, error) {
	t, o := &j.list[i], j.o
	w, err := keep(o, j.src, t)
	if err != nil {
		return nil, err
	}
	if w.copied {
		w.kind = plan.F16
	}
	m := plan.Options{Levels: []quant.Levels{quant.Ternary, quant.Quinary, quant.Sparse}, Rules: []quant.Rule{o.rule}, Groups: []int{32, 128, quant.PerRow},
		Coding: o.coding, Wide: []plan.Kind{w.kind}, HalfScales: true, Sample: sampled}
	if o.levels != 0 {
		m.Levels = []quant.Levels{o.levels}
	}
	if o.given["group"] {
		m.Groups = []int{o.group}
		if o.group > t.cols {
			m.Groups[0] = quant.PerRow
		}
	}
	if !o.ours() {
		m.Levels, m.Groups, m.Coding = []quant.Levels{quant.Ternary}, []int{gguf.Block}, stn.Base3
	}
	list := plan.SampleRows(t.rows, t.cols, sampled)
	values := make([]float32, 0, len(list)*t.cols)
	for _, r := range list {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		x, err := matrixRows(j.src, t, r, 1, j.e.x, true)
		if err != nil {
			return nil, err
		}
		j.e.keepBuffer(x)
		values = append(values, x...)
	}
	j.e.p.show("measuring %s on %d of %d rows", t.name, len(list), t.rows)
	got, err := plan.Candidates(ctx, j.e.rt, t.name, values, t.rows, t.cols, m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.path, err)
	}
	if !o.ours() {
		for k := range got.Candidates {
			if c := &got.Candidates[k]; c.Kind == plan.Quantized {
				_, size, _ := ggufType(nil, t, &choice{kind: plan.Quantized, coding: o.coding}).Size()
				c.Coding, c.Bytes = o.coding, t.values()/gguf.Block*int64(size)
			}
		}
	}
	return got, nil
}

// take makes a candidate the choice of tensor i.
func (j *job) take(i int, c plan.Candidate) {
	n := choice{kind: c.Kind, levels: c.Levels, rule: c.Rule, group: c.Group, coding: c.Coding}
	if c.Kind != plan.Quantized {
		n.why = "budget"
	}
	if n.group == quant.PerRow || n.group > j.list[i].cols {
		n.group = j.list[i].cols
	}
	j.choices[i] = n
}

// overhead estimates what the file takes beside the tensors that are chosen for: kept tensors, header, padding.
func (j *job) overhead() int64 {
	n := int64(256)
	for i := range j.list {
		t := &j.list[i]
		n += 320 + int64(len(t.name))
		switch c := &j.choices[i]; {
		case c.copied:
			n += t.size
		case c.kind == plan.F32:
			n += 4 * t.values()
		case c.kind != plan.Quantized:
			n += 2 * t.values()
		}
	}
	return n
}

// relative returns the error of the tensors that were chosen for together: of codes as they were written, of floating-point ones as they were measured.
func (j *job) relative(which []int, measured []plan.Tensor, p *plan.Plan) float64 {
	var all stats
	for k, i := range which {
		st := j.stats[i]
		if j.choices[i].kind != plan.Quantized {
			st.xx, st.ee = measured[k].Energy, p.Choices[k].Candidate.Error
		}
		all.join(&st)
	}
	return all.relative()
}
