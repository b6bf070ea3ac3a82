// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/plan"
	setun "github.com/setun-compute/setun/runtime"
)

// encoder turns tensors into codes, chunk by chunk. The same tensor and choice give the same codes every time, so that what was written can be checked without keeping it.
type encoder struct {
	rt       *setun.Runtime
	src      source
	p        *progress
	x        []float32
	q        *quant.Tensor
	halfOnly bool // the file has no other scales than binary16
}

// each calls f with each chunk of a tensor that is to be quantized: its first row, its codes as Int8, and the values that they stand for. The codes are those for the scales, which are rounded to binary16 where that holds 11 bits of
// them; one scale for all stays float32.
func (e *encoder) each(ctx context.Context, t *tensor, c choice, f func(first int, q *quant.Tensor, x []float32) error) error {
	var whole float32
	var limits threshold
	if c.group == 0 {
		var err error
		if whole, limits, err = e.wholeScale(ctx, t, c); err != nil {
			return err
		}
	}
	return e.chunks(ctx, t, true, func(first int, x []float32) error {
		o := quant.Options{Levels: c.levels, Rule: c.rule, Cols: t.cols, Group: c.group}
		if c.group == 0 {
			if e.q == nil {
				e.q = new(quant.Tensor)
			}
			e.q.Resize(len(x)/t.cols, o.WithDefaults(len(x)))
			e.q.Scales[0] = whole
			if c.levels == quant.Sparse {
				e.sparse(t, x)
			} else {
				plan.Codes(e.q.Codes, x, limits.scale, c.levels)
			}
			return f(first, e.q, x)
		}
		var err error
		if e.q, err = e.rt.QuantizeContext(ctx, e.q, x, o); err != nil {
			return e.about(t, err)
		}
		plan.RoundScales(e.q, x, c.rule, e.halfOnly)
		return f(first, e.q, x)
	})
}

// sparse makes the codes of rows, which do not depend on the scale.
func (e *encoder) sparse(t *tensor, x []float32) {
	for r := range len(x) / t.cols {
		quant.SparseCodes(e.q.Codes[r*t.cols:][:t.cols], x[r*t.cols:][:t.cols])
	}
}

// chunks calls f with each chunk of a tensor's values.
func (e *encoder) chunks(ctx context.Context, t *tensor, codes bool, f func(first int, x []float32) error) error {
	for first := 0; first < t.rows; first += t.chunk() {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(t.chunk(), t.rows-first)
		x, err := matrixRows(e.src, t, first, n, e.x, codes)
		if err != nil {
			return err
		}
		e.keepBuffer(x)
		if err := f(first, x); err != nil {
			return err
		}
		e.p.tensor(t.name, t.size/int64(t.rows)*int64(first+n), t.size/int64(t.rows)*int64(t.rows))
	}
	return nil
}

// keepBuffer keeps memory that a source gave, unless it is the file itself.
func (e *encoder) keepBuffer(x []float32) {
	if _, mapped := e.src.(*npySource); !mapped {
		e.x = x
	}
}

func (e *encoder) about(t *tensor, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%s: tensor %q: %w", t.path, t.name, err)
}
