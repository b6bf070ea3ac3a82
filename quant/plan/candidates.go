// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/setun-compute/setun/internal/floats"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/stn"
	"github.com/setun-compute/setun/runtime"
)

// Options says which candidates are measured, and on how much. The zero value is usual.
type Options struct {
	Levels []quant.Levels // nil: Ternary, Quinary, Sparse; empty: none
	Rules  []quant.Rule   // nil: LeastSquares. A rule is left out for levels that it does not fit
	Groups []int          // nil: 128 and quant.PerRow; 0 is one scale for the tensor. Sizes beyond the row are left out
	Coding stn.Coding     // 0: the smallest, by encoding
	Wide   []Kind         // of Int8Rows, F16, BF16, F32; nil: all four; empty: none

	// HalfScales rounds scales to binary16 before codes are chosen, see RoundScales.
	HalfScales bool

	// Sample is how many values are looked at: of a larger tensor rows that are spread evenly. 0 is 2^22.
	Sample int
}

func (o Options) withDefaults() Options {
	if o.Levels == nil {
		o.Levels = []quant.Levels{quant.Ternary, quant.Quinary, quant.Sparse}
	}
	if o.Rules == nil {
		o.Rules = []quant.Rule{quant.LeastSquares}
	}
	if o.Groups == nil {
		o.Groups = []int{128, quant.PerRow}
	}
	if o.Wide == nil {
		o.Wide = []Kind{Int8Rows, F16, BF16, F32}
	}
	if o.Sample == 0 {
		o.Sample = 1 << 22
	}
	return o
}

// SampleRows returns which rows of a tensor Candidates looks at: all, or as many as make up sample values, one from the middle of each of equal parts.
func SampleRows(rows, cols, sample int) []int {
	n := min(rows, max(1, sample/max(1, cols)))
	list := make([]int, n)
	for i := range list {
		list[i] = int((2*int64(i) + 1) * int64(rows) / (2 * int64(n)))
	}
	return list
}

// Candidates measures ways to store a tensor of rows×cols values: it quantizes by rt and counts error, zeros, entropy and bytes. values are all of them, row-major, or those of the rows that SampleRows returns, for a tensor
// that is not in memory. The result says how many rows it is based on; with fewer than all, bytes and errors are those of the sample times rows/sampled (those of a scale of the whole tensor are the sample's too).
//
// Bytes are what package stn writes for codes, index and scales, without padding to 64 bytes and the header: exact for a tensor that was looked at whole, except for Int8Rows, which stn does not have. Stochastic codes have the
// seed 0. F16 is left out when a value is beyond its range. Errors: ErrArgument; those of Runtime.Quantize, ErrNonFinite among them; ctx's error. Deterministic.
func Candidates(ctx context.Context, rt *runtime.Runtime, name string, values []float32, rows, cols int, o Options) (*Tensor, error) {
	o = o.withDefaults()
	fail := func(detail string, args ...any) error {
		return fmt.Errorf("%w: tensor %q: %s", ErrArgument, name, fmt.Sprintf(detail, args...))
	}
	if rows < 1 || cols < 1 || int64(rows) > maxBytes/int64(cols) || o.Sample < 1 {
		return nil, fail("%d×%d values, a sample of %d", rows, cols, o.Sample)
	}
	list := SampleRows(rows, cols, o.Sample)
	switch n := len(values); {
	case n == len(list)*cols:
	case int64(n) == int64(rows)*int64(cols):
		all := values
		values = make([]float32, 0, len(list)*cols)
		for _, r := range list {
			values = append(values, all[r*cols:][:cols]...)
		}
	default:
		return nil, fail("%d values; %d×%d of the tensor or %d of a sample are taken", n, rows, cols, len(list)*cols)
	}
	m := &measuring{rt: rt, o: o, x: values, rows: rows, sampled: len(list), cols: cols, t: &Tensor{Name: name, Values: int64(rows) * int64(cols), Rows: rows, SampledRows: len(list)}}
	for _, v := range values {
		m.t.Energy += float64(v) * float64(v) // exact, so that it matters not whether the compiler fuses
	}
	if math.IsNaN(m.t.Energy) || math.IsInf(m.t.Energy, 0) {
		for i, v := range values {
			if v-v != 0 {
				return nil, fmt.Errorf("tensor %q: row %d, column %d = %v: %w", name, list[i/cols], i%cols, v, runtime.ErrNonFinite)
			}
		}
	}
	m.t.Energy *= m.factor()
	for _, l := range o.Levels {
		for _, group := range o.Groups {
			for _, rule := range o.Rules {
				if l == quant.Sparse && rule != quant.LeastSquares && rule != quant.Magnitude || group > cols || group == cols && slices.Contains(o.Groups, quant.PerRow) {
					continue
				}
				if err := m.quantized(ctx, l, rule, group); err != nil {
					return nil, fmt.Errorf("tensor %q: %w", name, err)
				}
			}
		}
	}
	for _, k := range o.Wide {
		if err := m.wide(k); err != nil {
			return nil, fmt.Errorf("tensor %q: %w", name, err)
		}
	}
	if len(m.t.Candidates) == 0 {
		return nil, fail("no candidate fits")
	}
	return m.t, nil
}

// measuring is one call of Candidates.
type measuring struct {
	rt                  *runtime.Runtime
	o                   Options
	x                   []float32
	rows, sampled, cols int
	q                   *quant.Tensor
	t                   *Tensor
}

// factor turns sums over the sample into those over the tensor.
func (m *measuring) factor() float64 { return float64(m.rows) / float64(m.sampled) }

func (m *measuring) quantized(ctx context.Context, l quant.Levels, rule quant.Rule, group int) error {
	var err error
	if m.q, err = m.rt.QuantizeContext(ctx, m.q, m.x, quant.Options{Levels: l, Rule: rule, Cols: m.cols, Group: group}); err != nil {
		return err
	}
	if m.o.HalfScales {
		RoundScales(m.q, m.x, rule, false)
	}
	scaleBytes := 4
	if stn.ScaleKind(m.q.Scales) == stn.F16 {
		scaleBytes = 2
	}
	s, err := quant.Measure(m.q, m.x)
	if err != nil {
		return err
	}
	coding, codes, err := codesBytes(m.q, m.o.Coding)
	if err != nil {
		return err
	}
	scales := int64(quant.ScaleCount(m.rows, m.cols, m.q.Group)) * int64(scaleBytes)
	bytes := scales + int64(math.Ceil(float64(codes)*m.factor()))
	m.t.Candidates = append(m.t.Candidates, Candidate{Kind: Quantized, Levels: l, Rule: rule, Group: group, Coding: coding,
		Bytes: bytes, Error: s.MSE * float64(m.t.Values), Zeros: s.Zeros, Entropy: s.Entropy})
	return nil
}

// codesBytes returns the coding that is used for codes, and the bytes of codes and index. A coding that does not fit the levels gives way to the smallest.
func codesBytes(t *quant.Tensor, c stn.Coding) (stn.Coding, int64, error) {
	rows, cols := int64(t.Rows), int64(t.Cols)
	ternary := t.Levels != quant.Quinary
	switch {
	case c == stn.Int8:
		return c, rows * cols, nil
	case c == stn.Bits2 && ternary, c == stn.Base3 && ternary, c == stn.Four5 && t.Levels == quant.Sparse:
		return c, rows * int64(quant.Format(c).RowBytes(t.Cols)), nil
	case c == stn.Planes && ternary:
		return c, planesBytes(t), nil
	}
	if c == stn.RANS || c == stn.Classes && t.Levels == quant.Ternary {
		bytes, err := stn.EncodedSize(t, c)
		return c, bytes, err
	}
	return stn.Smallest(t)
}

// planesBytes counts what the planes of stn take: blocks of ⌈65536/cols⌉ rows, a bit a code, a bit for each that is not 0, four bytes of index.
func planesBytes(t *quant.Tensor) int64 {
	per := (1<<16 + t.Cols - 1) / t.Cols
	total := int64(0)
	for r := 0; r < t.Rows; r += per {
		codes := t.Codes[r*t.Cols : min(r+per, t.Rows)*t.Cols]
		some := 0
		for _, c := range codes {
			some += int(c & 1) // −1 and 1
		}
		total += 4 + int64(len(codes)+7)/8 + int64(some+7)/8
	}
	return total
}

func (m *measuring) wide(k Kind) error {
	n := m.t.Values
	c := Candidate{Kind: k}
	switch k {
	case F32:
		c.Bytes = 4 * n
	case F16, BF16:
		c.Bytes = 2 * n
		round := func(v float32) float32 { return floats.Half(floats.ToHalf(v)) }
		if k == BF16 {
			round = func(v float32) float32 { return floats.BFloat(floats.ToBFloat(v)) }
		}
		for _, v := range m.x {
			e := float64(v) - float64(round(v))
			c.Error += float64(e * e)
		}
		if math.IsInf(c.Error, 0) {
			return nil // a value beyond the range
		}
	case Int8Rows:
		c.Bytes = n + 4*int64(m.rows)
		for x := m.x; len(x) > 0; x = x[m.cols:] {
			row := x[:m.cols]
			most := float32(0)
			for _, v := range row {
				most = max(most, v, -v)
			}
			s := float64(most / 127)
			for _, v := range row {
				e := float64(v)
				if s > 0 { // else all of the row becomes 0
					e -= float64(math.RoundToEven(e/s) * s)
				}
				c.Error += float64(e * e)
			}
		}
	default:
		return fmt.Errorf("%w: %v is no wide kind", ErrArgument, k)
	}
	c.Error *= m.factor()
	m.t.Candidates = append(m.t.Candidates, c)
	return nil
}
