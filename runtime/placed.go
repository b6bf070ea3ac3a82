// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"cmp"
	"errors"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// vector is an operand of an op: a slice of the program, or a buffer with a slice of its own. Sizes and overlap are checked on the slices, whatever is in them.
type vector struct {
	values []float32
	buffer *Buffer
}

func slice(x []float32) vector { return vector{values: x} }

// placed are the buffers of a call. It is nil for calls on slices alone, which kernels of a device copy themselves.
type placed struct {
	uses     []use
	operands []dispatch.Operand // of the uses, then what the call writes for the program
	gone     bool               // the content of a buffer cannot be had: no other kernel can help
	foreign  bool               // and that is not the chosen arm's fault
}

// use is what a call does to a buffer.
type use struct {
	buffer        *Buffer
	at            []*backends.Address // in the op's argument
	read, written bool
	brought       dispatch.Spaces // memories in which its content is now, and was not before the call
}

// with adds an operand, whose address belongs into the argument at the given place. Where a call has buffers all its vectors are buffers.
func (p *placed) with(v vector, at *backends.Address, read, written bool) *placed {
	if v.buffer == nil {
		return p
	}
	if p == nil {
		p = new(placed)
	}
	i := slices.IndexFunc(p.uses, func(u use) bool { return u.buffer == v.buffer })
	if i < 0 {
		i = len(p.uses)
		p.uses = append(p.uses, use{buffer: v.buffer})
	}
	u := &p.uses[i]
	u.at, u.read, u.written = append(u.at, at), u.read || read, u.written || written
	return p
}

// output adds bytes that the call writes for the program.
func (p *placed) output(bytes float64) *placed {
	if p != nil {
		p.operands = append(p.operands, dispatch.Operand{Residence: &dispatch.Residence{Bytes: bytes, In: 1 << dispatch.Host, Pin: true}, Written: true})
	}
	return p
}

// lock takes the buffers for a call.
func (p *placed) lock(rt *Runtime, s *dispatch.Shape) error {
	slices.SortFunc(p.uses, func(a, b use) int { return cmp.Compare(a.buffer.order, b.buffer.order) })
	for i, u := range p.uses {
		if u.buffer.rt != rt {
			p.unlock(i)
			return backends.Fail(ErrArgument, s.Op, s.String(), "a buffer is another runtime's")
		}
		if u.buffer.mutex.Lock(); u.buffer.closed {
			p.unlock(i + 1)
			return backends.Fail(ErrClosed, s.Op, s.String(), "a buffer was closed")
		}
		p.operands = slices.Insert(p.operands, i, dispatch.Operand{Residence: &u.buffer.where, Read: u.read, Written: u.written})
	}
	return nil
}

func (p *placed) unlock(n int) {
	for _, u := range p.uses[:n] {
		u.buffer.mutex.Unlock()
	}
}

// bring sees to it that what the arm reads is in its memory, and that there is room for what it writes, and fills in the addresses.
func (p *placed) bring(rt *Runtime, m *arm) error {
	to := dispatch.Memory(m.kernel.Memory)
	for i := range p.uses {
		u := &p.uses[i]
		if err := p.bringOne(rt, u, to); err != nil {
			return err
		}
		for _, at := range u.at {
			*at = u.buffer.at[to] // 0 for the host
		}
	}
	return nil
}

func (p *placed) bringOne(rt *Runtime, u *use, to dispatch.Memory) error {
	b := u.buffer
	if to != dispatch.Host && b.at[to] == 0 {
		at, err := rt.memories[to].memory.Alloc(4 * int64(b.n))
		if err != nil {
			return err
		}
		b.at[to] = at
	}
	has := b.where.In | u.brought
	if !u.read || has.Has(to) {
		return nil
	}
	if !has.Has(dispatch.Host) { // from device to device it goes through the host
		if err := b.download(b.host); err != nil {
			p.gone, p.foreign = true, true
			return err
		}
		u.brought |= 1 << dispatch.Host
	}
	if to != dispatch.Host {
		if err := rt.memories[to].memory.Upload(b.at[to], backends.Bytes(b.host)); err != nil {
			return err
		}
		u.brought |= 1 << to
	}
	return nil
}

// settle records that an arm has run: where the contents are now.
func (p *placed) settle(r *dispatch.Router, s *dispatch.Shape, arm int) {
	r.Settle(s, p.operands, arm)
	for i := range p.uses {
		u := &p.uses[i]
		if !u.written { // else the copies are of what was
			u.buffer.where.In |= u.brought
		}
		u.brought = 0
	}
}

// failed records that an arm has not: the copies that were made for it stay. A buffer that a kernel changes in place may be spoiled when it fails, unless it could not begin, and without another copy of it no other kernel can
// help.
func (p *placed) failed(m *arm, err error) {
	spoils := (m.kernel.Memory != 0 || m.kernel.Op == backends.OpMatMul) && !errors.Is(err, backends.ErrUnsupported) && !errors.Is(err, backends.ErrMemory)
	for i := range p.uses {
		u := &p.uses[i]
		has := u.buffer.where.In | u.brought
		u.brought = 0
		if left := has &^ (1 << m.kernel.Memory); spoils && u.read && u.written && !p.gone {
			p.gone = left == 0
			has = cmp.Or(left, has)
		}
		u.buffer.where.In = has
	}
}
