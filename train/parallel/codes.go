// SPDX-License-Identifier: Apache-2.0

package parallel

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/optim"
)

// Codes is the Reducer that sends ternary codes, five a byte, with float32 scales. What coding loses of a rank's gradient is added to that rank's next one (optim.Feedback): it is late, not lost.
//
// Each rank sends its codes to all others: a twentieth of the float32 values between two ranks, and the share grows with their number (n−1 times a fifth of a byte a value against 2(n−1)/n times four), so that from forty on float32 sends less.
type Codes struct {
	forum      *Forum
	compressor *optim.Compressor
	tensors    []optim.Tensor
	mine, all  []byte
	scales     []float32            // of this rank
	digits     [planes][256]float64 // of a packed byte
	codes      [run]float64
	sums       [run]float64
}

// run is how many codes a block of packed ones holds: those of one tensor are unpacked and added a block at a time.
const (
	planes   = 5 // codes of a byte
	runBytes = 64
	run      = planes * runBytes
)

// NewCodes makes one with nothing to make up for. group is 0 for one scale a tensor, quant.PerRow for one a row. It keeps references to the tensors' slices. Errors: ErrArgument, and those of optim.NewCompressor.
func NewCodes(rt *runtime.Runtime, f *Forum, tensors []optim.Tensor, group int) (*Codes, error) {
	if group != 0 && group != quant.PerRow {
		return nil, fmt.Errorf("parallel: codes in groups of %d: %w", group, ErrArgument)
	}
	c, err := optim.NewCompressor(rt, tensors, optim.CompressOptions{Coding: optim.Feedback, Group: group})
	if err != nil {
		return nil, err
	}
	bytes, scales := 0, 0
	for i := range tensors {
		bytes += quant.Base3.RowBytes(len(tensors[i].Grad))
		scales += quant.ScaleCount(tensors[i].Rows, tensors[i].Cols, -group*tensors[i].Cols)
	}
	bytes += 4 * scales
	codes := &Codes{forum: f, compressor: c, tensors: tensors, mine: make([]byte, bytes), all: make([]byte, f.Size()*bytes), scales: make([]float32, scales)}
	var digits [planes]int8
	for v := range 256 {
		quant.UnpackRow(digits[:], []byte{byte(v)}, quant.Base3)
		for p, code := range digits {
			codes.digits[p][v] = float64(code)
		}
	}
	return codes, nil
}

// Add codes this rank's gradients with what was left of earlier ones, and adds what all ranks sent. After an error what is left is unspecified.
func (c *Codes) Add(step uint64) error {
	_, err := c.compressor.Compress(step)
	if err = c.forum.Agree(err); err != nil || c.forum.Size() == 1 {
		return err
	}
	packed, scales := c.mine[4*len(c.scales):], c.scales[:0]
	for i := range c.tensors {
		q := c.compressor.Codes(i)
		n := quant.Base3.RowBytes(len(q.Codes))
		quant.PackRow(packed[:n], q.Codes, quant.Base3) // a tensor is packed as one row: short ones would leave room
		packed, scales = packed[n:], append(scales, q.Scales...)
	}
	copy(c.mine, bytesOf(scales))
	if err := c.forum.Gather(c.all, c.mine); err != nil {
		return err
	}
	scale, at := 0, 4*len(c.scales)
	for i := range c.tensors {
		t := &c.tensors[i]
		cols := len(t.Grad) // that share a scale
		if len(c.compressor.Codes(i).Scales) == t.Rows {
			cols = t.Cols
		}
		for b := 0; b < len(t.Grad); b += run {
			g := t.Grad[b:min(b+run, len(t.Grad))]
			c.add(g, b, cols, scale, at)
			at += quant.Base3.RowBytes(len(g))
		}
		scale += len(t.Grad) / cols
	}
	return nil
}

// add sets the gradients of a block, the first of which is value b of its tensor, to the sums of what the ranks sent: scale i of a tensor belongs to cols of its values.
func (c *Codes) add(g []float32, b, cols, scale, at int) {
	sums, codes := c.sums[:len(g)], c.codes[:len(g)]
	clear(sums)
	block := len(c.mine)
	for r := range c.forum.Size() {
		sent := c.all[r*block:][:block]
		places := sent[at:][:(len(g)-1)/planes+1] // code i is digit i/m of byte i mod m
		for p, to := 0, codes; len(to) > 0; p++ {
			digits := &c.digits[p]
			for i, v := range places[:min(len(places), len(to))] {
				to[i] = digits[v]
			}
			to = to[min(len(places), len(to)):]
		}
		for j := 0; j < len(g); {
			i := (b + j) / cols
			end := min(len(g), (i+1)*cols-b)
			s := float64(math.Float32frombits(binary.NativeEndian.Uint32(sent[4*(scale+i):])))
			for ; j < end; j++ {
				sums[j] += float64(s * codes[j])
			}
		}
	}
	for j, v := range sums {
		g[j] = float32(v)
	}
}

// State copies the residuals of this rank.
func (c *Codes) State(dst *optim.State) *optim.State { return c.compressor.State(dst) }

// Load is the inverse of State.
func (c *Codes) Load(s *optim.State) error { return c.compressor.Load(s) }
