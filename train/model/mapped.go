// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"

	"github.com/setun-compute/setun/runtime"
)

// room is what a mapped model has in buffers: its parameters and gradients, and what passes work in.
type room struct {
	fixed  []*runtime.Buffer
	grown  []grown
	mapped bool
}

// grown is a slice of the model's that grows, and the buffer of it as it is now.
type grown struct {
	slice  *[]float32
	first  *float32 // of the buffer
	buffer *runtime.Buffer
}

// Map makes buffers of the parameters, gradients and the memory of passes (runtime.Runtime.Map), so that they stay on the device where the calls of passes run. Only the two ends of the network are computed in the program's memory:
// the sum of token and position vectors with its gradient, and the cross entropy; of a ternary model the weights that multiply are made there too, from codes, and with QuantizeActivations what int8 codes of inputs stand for. Results are the same bits.
//
// Param.Value and Param.Grad are then to be read after Home, and whoever writes to them says so with runtime.Runtime.Changed. Close gives the buffers back; without it they, and the model's memory, stay until the runtime is closed. Errors: those of runtime.Runtime.Map.
func (m *Model) Map() error {
	if m.room.mapped {
		return nil
	}
	for _, p := range m.params {
		for _, x := range [][]float32{p.Value, p.Grad} {
			b, err := m.rt.Map(x)
			if err != nil {
				return cmp.Or(err, m.Close())
			}
			m.room.fixed = append(m.room.fixed, b)
		}
	}
	m.room.mapped = true
	add := func(slices ...*[]float32) {
		for _, s := range slices {
			m.room.grown = append(m.room.grown, grown{slice: s})
		}
	}
	for i := range m.layers {
		l := &m.layers[i]
		add(&l.first, &l.firstNorm, &l.firstScale, &l.heads, &l.weights, &l.mixed, &l.second, &l.secondNorm, &l.secondScale, &l.hidden, &l.active)
	}
	for _, l := range m.linears {
		add(&l.mixed, &l.hat, &l.scale)
	}
	b := &m.buffers
	add(&b.delta, &b.last, &b.lastNorm, &b.lastScale, &b.logits, &b.residual, &b.row, &b.heads, &b.weights, &b.hidden, &b.active)
	if err := m.mapRoom(); err != nil {
		return cmp.Or(err, m.Close())
	}
	return nil
}

// mapRoom makes buffers of what has grown since it was last called. A pass that lets something grow works with that in the program's memory.
func (m *Model) mapRoom() error {
	for i := range m.room.grown {
		g := &m.room.grown[i]
		x := (*g.slice)[:cap(*g.slice)]
		if len(x) == 0 || &x[0] == g.first {
			continue
		}
		if g.buffer != nil {
			if err := g.buffer.Close(); err != nil {
				return err
			}
		}
		b, err := m.rt.Map(x)
		if err != nil {
			return err
		}
		g.first, g.buffer = &x[0], b
	}
	return nil
}

// Home brings parameters and gradients of a mapped model to where the program can read them, until the next call. Of one that is not mapped it does nothing.
func (m *Model) Home() error {
	for _, p := range m.params {
		if err := m.rt.Home(p.Value, p.Grad); err != nil {
			return err
		}
	}
	return nil
}

// Close brings parameters and gradients home and gives the buffers of a mapped model back; of one that is not mapped it does nothing. The model can go on.
func (m *Model) Close() (err error) {
	for _, b := range m.room.fixed {
		err = cmp.Or(err, b.Close())
	}
	for _, g := range m.room.grown {
		if g.buffer != nil {
			err = cmp.Or(err, g.buffer.Close())
		}
	}
	m.room = room{}
	return err
}
