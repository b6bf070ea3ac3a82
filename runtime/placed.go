// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"cmp"
	"errors"
	"slices"
	"sync"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// vector is an operand of an op: a slice of the program, or a buffer with a slice of its own. Sizes and overlap are checked on the slices, whatever is in them.
type vector struct {
	values []float32
	buffer *Buffer
}

func slice(x []float32) vector { return vector{values: x} }

// placed are the operands of a call that has buffers among them. It is nil for calls on slices alone, which kernels of a device copy themselves.
type placed struct {
	mapped   *mapped // the program's slices that are buffers; nil: none
	uses     []use
	places   []place
	operands []dispatch.Operand // what the dispatcher is asked with
	own      [12]dispatch.Residence
	owned    int
	err      error // an operand that no call can have
	gone     bool  // the content of a buffer cannot be had: no other kernel can help
	foreign  bool  // and that is not the chosen arm's fault
}

// use is what a call does to a buffer.
type use struct {
	buffer        *Buffer
	read, written bool
	brought       dispatch.Spaces // memories in which its content is now, and was not before the call
}

// place is where in the op's argument the address of an operand belongs, so many bytes into a buffer.
type place struct {
	at     *backends.Address
	buffer *Buffer
	offset backends.Address
}

var placements = sync.Pool{New: func() any { return new(placed) }}

// placing begins the operands of a call: nil while no slice of the program is a buffer.
func (rt *Runtime) placing() *placed {
	m := rt.mapped.Load()
	if m == nil {
		return nil
	}
	p := placements.Get().(*placed)
	p.mapped = m
	return p
}

// release ends with the call.
func (p *placed) release() {
	clear(p.uses)
	clear(p.places)
	clear(p.operands)
	*p = placed{uses: p.uses[:0], places: p.places[:0], operands: p.operands[:0]}
	placements.Put(p)
}

// with adds an operand, whose address belongs into the argument at the given place: a buffer, or a slice, which may lie in one.
func (p *placed) with(v vector, at *backends.Address, read, written bool) *placed {
	if p == nil && v.buffer == nil || len(v.values) == 0 && v.buffer == nil {
		return p
	}
	if p == nil {
		p = placements.Get().(*placed)
	}
	b, offset := v.buffer, 0
	if b == nil {
		var err error
		if b, offset, err = p.mapped.find(v.values); err != nil {
			p.err = err
			return p
		}
	}
	if b == nil {
		return p.program(4*float64(len(v.values)), read, written)
	}
	if written && len(v.values) < b.n {
		read = true // the rest stays
	}
	p.places = append(p.places, place{at, b, backends.Address(4 * offset)})
	i := slices.IndexFunc(p.uses, func(u use) bool { return u.buffer == b })
	if i < 0 {
		i = len(p.uses)
		p.uses = append(p.uses, use{buffer: b})
	}
	u := &p.uses[i]
	u.read, u.written = u.read || read, u.written || written
	return p
}

// output adds bytes that the call writes for the program, and input those that it reads.
func (p *placed) output(bytes float64) *placed { return p.program(bytes, false, true) }
func (p *placed) input(bytes float64) *placed  { return p.program(bytes, true, false) }

// program adds an operand that is the program's own.
func (p *placed) program(bytes float64, read, written bool) *placed {
	if p == nil {
		return nil
	}
	var r *dispatch.Residence
	if p.owned < len(p.own) {
		r = &p.own[p.owned]
		p.owned++
	} else {
		r = new(dispatch.Residence)
	}
	*r = dispatch.Residence{Bytes: bytes, In: 1 << dispatch.Host, Pin: true}
	p.operands = append(p.operands, dispatch.Operand{Residence: r, Read: read, Written: written})
	return p
}

// lock takes the buffers for a call.
func (p *placed) lock(rt *Runtime, s *dispatch.Shape) error {
	slices.SortFunc(p.uses, func(a, b use) int { return cmp.Compare(a.buffer.order, b.buffer.order) })
	if p.err != nil {
		return backends.Fail(ErrArgument, s.Op, s.String(), "%v", p.err)
	}
	for i, u := range p.uses {
		if u.buffer.rt != rt {
			p.unlock(i)
			return backends.Fail(ErrArgument, s.Op, s.String(), "a buffer is another runtime's")
		}
		if u.buffer.mutex.Lock(); u.buffer.closed {
			p.unlock(i + 1)
			return backends.Fail(ErrClosed, s.Op, s.String(), "a buffer was closed")
		}
		p.operands = append(p.operands, dispatch.Operand{Residence: &u.buffer.where, Read: u.read, Written: u.written})
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
	}
	for _, x := range p.places {
		if *x.at = 0; to != dispatch.Host {
			*x.at = x.buffer.at[to] + x.offset
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
		if left := has &^ (1 << m.kernel.Memory); spoils && u.written && !p.gone {
			p.gone = left == 0 && u.read
			has = cmp.Or(left, has)
		}
		u.buffer.where.In = has
	}
}
