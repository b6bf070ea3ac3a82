// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"fmt"
	"math"

	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

// Coding is how a Compressor makes ternary codes of a gradient.
type Coding uint8

// The codings. Use one or the other: unbiased codes need no feedback, feedback needs no unbiased codes.
const (
	// Unbiased is TernGrad (Wen et al., arXiv 1705.07878): values are clamped to ±Sigma·rms of their tensor, then code = sign with probability |g|/max|g|, at random, so that the
	// mean over draws is the clamped gradient.
	Unbiased Coding = iota
	// Feedback is error feedback (Seide et al., Interspeech 2014; Karimireddy et al., arXiv 1901.09847): p = g + e is coded with the least-squares scale, and what coding lost, e ←
	// p − q, is added the next time.
	Feedback
)

// CompressOptions says how a Compressor codes. The zero value is TernGrad with one scale a tensor.
type CompressOptions struct {
	Coding Coding
	Group  int     // values of a row that share a scale; 0: one scale a tensor; quant.PerRow: one a row
	Sigma  float64 // Unbiased: where values are clamped, in root mean squares of the tensor; 0: 2.5; infinite: not at all
	Seed   uint64  // of the draws; give each worker its own
}

// Compressor turns gradients into what their receiver would decode from ternary codes. One stands for one sender: workers of a data-parallel run have one each, and the mean of
// what they leave in Grad is the gradient of the step. It is not for several goroutines at once.
type Compressor struct {
	rt       *setun.Runtime
	o        CompressOptions
	tensors  []Tensor
	opts     []quant.Options
	codes    []*quant.Tensor
	residual [][]float32 // Feedback alone
}

// Wire counts the bytes of one gradient in several codings, scales included, and what coding lost.
type Wire struct {
	Values   int64   // numbers in the gradient
	Float32  int64   // bytes as float32
	Bits2    int64   // bytes as four codes a byte
	Base3    int64   // bytes as five codes a byte
	Entropy  int64   // bytes that an entropy coder such as rANS comes near to: the entropy of each tensor's codes, and 16 bytes a tensor for its table and state
	Zeros    float64 // share of codes that are 0
	Relative float64 // ‖p − q‖²/‖p‖² of what was coded: the clamped gradient, or the gradient with its residual
}

// NewCompressor makes one with residuals of 0. It keeps references to the tensors' slices. Memory: a byte a value, and 4 more for residuals. Errors: ErrArgument, ErrShape.
func NewCompressor(rt *setun.Runtime, tensors []Tensor, o CompressOptions) (*Compressor, error) {
	if o.Sigma == 0 {
		o.Sigma = 2.5
	}
	switch {
	case rt == nil:
		return nil, fmt.Errorf("optim: there is no runtime: %w", setun.ErrArgument)
	case o.Coding > Feedback:
		return nil, fmt.Errorf("optim: coding %d: %w", o.Coding, setun.ErrArgument)
	case !(o.Sigma > 0) || o.Group < quant.PerRow:
		return nil, fmt.Errorf("optim: compression with sigma %v in groups of %d: %w", o.Sigma, o.Group, setun.ErrArgument)
	}
	if err := check(tensors); err != nil {
		return nil, err
	}
	c := &Compressor{rt: rt, o: o, tensors: tensors}
	for _, t := range tensors {
		q := quant.Options{Levels: quant.Ternary, Rule: quant.Stochastic, Format: quant.Int8, Cols: t.Cols, Group: min(o.Group, t.Cols)}
		if o.Coding == Feedback {
			q.Rule = quant.LeastSquares
			c.residual = append(c.residual, make([]float32, len(t.Value)))
		}
		c.opts, c.codes = append(c.opts, q), append(c.codes, new(quant.Tensor))
	}
	return c, nil
}

// Codes returns what would be sent for tensor i: the codes of the latest Compress. They are valid until the next. nil for a tensor that is not there.
func (c *Compressor) Codes(i int) *quant.Tensor {
	if i < 0 || i >= len(c.codes) {
		return nil
	}
	return c.codes[i]
}

// Compress codes all gradients and puts into Grad what a receiver decodes. step seeds the draws, so that the codes of a step can be made again after a resume. It allocates nothing
// once it has run.
//
// Errors: ErrNonFinite naming tensor and index. No gradient and no residual has changed when a gradient is not finite; they are unspecified when a sum overflowed.
func (c *Compressor) Compress(step uint64) (Wire, error) {
	var w Wire
	for i := range c.tensors {
		if _, err := c.rt.Norm2(c.tensors[i].Grad); err != nil {
			return w, fmt.Errorf("optim: gradient of %s: %w", c.tensors[i].Name, err)
		}
	}
	zeros, lost, all := int64(0), 0.0, 0.0
	for i, t := range c.tensors {
		if c.o.Coding == Feedback {
			for j, e := range c.residual[i] {
				t.Grad[j] += e
			}
		} else {
			c.clamp(t.Grad)
		}
		o := c.opts[i]
		o.Seed = mix(c.o.Seed, step, uint64(i))
		q, err := c.rt.Quantize(c.codes[i], t.Grad, o)
		if err != nil {
			return w, fmt.Errorf("optim: gradient of %s: %w", t.Name, err)
		}
		all += canon.SumSquares(t.Grad)
		var residual []float32
		if c.residual != nil {
			residual = c.residual[i]
		}
		lost += decode(t.Grad, residual, q)
		zeros += w.add(q)
	}
	w.Zeros = float64(zeros) / float64(w.Values)
	if all > 0 {
		w.Relative = lost / all
	}
	return w, nil
}

// clamp limits values to ±Sigma root mean squares. The mean of a gradient is next to nothing, so that is TernGrad's deviation.
func (c *Compressor) clamp(g []float32) {
	if math.IsInf(c.o.Sigma, 1) {
		return // times a norm of 0 it would be a NaN
	}
	limit := float32(c.o.Sigma * math.Sqrt(canon.SumSquares(g)/float64(len(g))))
	for i, v := range g {
		g[i] = max(-limit, min(limit, v))
	}
}

// decode replaces values by those of their codes, leaves the differences in residual unless that is nil, and returns their sum of squares.
func decode(g, residual []float32, q *quant.Tensor) float64 {
	lost := 0.0
	for r := range q.Rows {
		codes, row := q.Codes[r*q.Cols:][:q.Cols], g[r*q.Cols:][:q.Cols]
		scaleRuns(q, r, func(b, e int, scale float32) {
			for j := b; j < e; j++ {
				v := scale * float32(codes[j])
				d := row[j] - float32(v)
				lost += float64(float64(d) * float64(d))
				if row[j] = v; residual != nil {
					residual[r*q.Cols+j] = d
				}
			}
		})
	}
	return lost
}

// add counts one tensor's bytes and returns its zeros.
func (w *Wire) add(q *quant.Tensor) int64 {
	n, scales := int64(len(q.Codes)), int64(4*len(q.Scales))
	var counts [3]int64
	for _, code := range q.Codes {
		counts[code+1]++
	}
	nats := 0.0
	for _, k := range counts {
		if k > 0 {
			nats += float64(float64(k) * canon.Log(float64(n)/float64(k)))
		}
	}
	w.Values += n
	w.Float32 += 4 * n
	w.Bits2 += int64(q.Rows*quant.Bits2.RowBytes(q.Cols)) + scales
	w.Base3 += int64(q.Rows*quant.Base3.RowBytes(q.Cols)) + scales
	w.Entropy += int64(math.Ceil(nats/math.Ln2/8)) + scales + 16
	return counts[1]
}
