// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"cmp"
	"context"
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

// home brings the values to where the program can read them, as bringing them to pure Go's k-means does.
func (v vector) home(ctx context.Context, rt *Runtime) error {
	if v.buffer == nil && rt.mapped.Load() == nil {
		return nil
	}
	p := rt.placing().with(v, new(backends.Address), true, false)
	if p == nil {
		return nil
	}
	rt.traffic.enter() // Close of the runtime waits
	defer rt.traffic.leave()
	left := false
	defer func() {
		if !left {
			p.release()
		}
	}()
	m, s := rt.arms[backends.OpKMeans][0], dispatch.Vector(backends.OpKMeans, len(v.values))
	if rt.closed.Load() {
		return backends.Fail(ErrClosed, s.Op, s.String(), "Close was called")
	}
	any, err := p.lock(ctx, rt, &s)
	if !any || err != nil {
		return err
	}
	left, err = calling(ctx, rt, m, p, v, func(*arm, vector) error { return nil }, 0)
	if left {
		return backends.OnBackend(err, m.name)
	}
	p.failed(m, err)
	return err
}

// placed are the operands of a call that may have buffers among them. It is nil for calls on slices alone, which kernels of a device copy themselves.
type placed struct {
	listed   []listed
	uses     []use // from here on as resolve found them
	places   []place
	operands []dispatch.Operand // what the dispatcher is asked with
	own      [12]dispatch.Residence
	owned    int
	locked   int  // of uses, the buffers that the call has
	began    bool // a kernel was called, and not only what it needs brought
	gone     bool // the content of a buffer cannot be had: no other kernel can help
	foreign  bool // and that is not the chosen arm's fault
}

// listed is an operand as the call has it: a buffer, or a slice, which may lie in a mapped one, or bytes of the program's without an address.
type listed struct {
	vector
	at            *backends.Address
	bytes         float64
	read, written bool
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
	if rt.mapped.Load() == nil {
		return nil
	}
	return placements.Get().(*placed)
}

// release ends with the call.
func (p *placed) release() {
	p.forget()
	clear(p.listed)
	*p = placed{listed: p.listed[:0], uses: p.uses, places: p.places, operands: p.operands}
	placements.Put(p)
}

// with adds an operand, whose address belongs into the argument at the given place.
func (p *placed) with(v vector, at *backends.Address, read, written bool) *placed {
	if v.buffer == nil && (p == nil || len(v.values) == 0) {
		return p
	}
	if p == nil {
		p = placements.Get().(*placed)
	}
	p.listed = append(p.listed, listed{v, at, 4 * float64(len(v.values)), read, written})
	return p
}

// output adds bytes that the call writes for the program, and input those that it reads.
func (p *placed) output(bytes float64) *placed { return p.program(bytes, false, true) }
func (p *placed) input(bytes float64) *placed  { return p.program(bytes, true, false) }

func (p *placed) program(bytes float64, read, written bool) *placed {
	if p != nil && bytes > 0 {
		p.listed = append(p.listed, listed{bytes: bytes, read: read, written: written})
	}
	return p
}

// forget undoes resolve, and gives back what was locked.
func (p *placed) forget() {
	for _, u := range p.uses[:p.locked] {
		u.buffer.lock.leave(0)
	}
	clear(p.uses)
	clear(p.places)
	clear(p.operands)
	p.uses, p.places, p.operands, p.owned, p.locked = p.uses[:0], p.places[:0], p.operands[:0], 0, 0
}

// resolve finds the buffers among the operands. A call has none when uses is empty then.
func (p *placed) resolve(m *mapped) error {
	p.forget()
	for _, g := range p.listed {
		b, offset := g.buffer, 0
		if b == nil && g.at != nil {
			var err error
			if b, offset, err = m.find(g.values); err != nil {
				return err
			}
		}
		if b == nil {
			p.operands = append(p.operands, dispatch.Operand{Residence: p.mine(g.bytes), Read: g.read, Written: g.written})
			continue
		}
		p.places = append(p.places, place{g.at, b, backends.Address(4 * offset)})
		i := slices.IndexFunc(p.uses, func(u use) bool { return u.buffer == b })
		if i < 0 {
			i = len(p.uses)
			p.uses = append(p.uses, use{buffer: b})
		}
		u := &p.uses[i]
		part := g.written && len(g.values) < b.n // the rest stays
		u.read, u.written = u.read || g.read || part, u.written || g.written
	}
	slices.SortFunc(p.uses, func(a, b use) int { return cmp.Compare(a.buffer.order, b.buffer.order) })
	return nil
}

// mine is the residence of what is the program's own.
func (p *placed) mine(bytes float64) (r *dispatch.Residence) {
	if p.owned < len(p.own) {
		r = &p.own[p.owned]
		p.owned++
	} else {
		r = new(dispatch.Residence)
	}
	*r = dispatch.Residence{Bytes: bytes, In: 1 << dispatch.Host, Pin: true}
	return r
}

// lock takes the buffers for a call, unless its context ends first. There are none when it returns false: the call is one on slices alone.
func (p *placed) lock(ctx context.Context, rt *Runtime, s *dispatch.Shape) (bool, error) {
	for {
		if err := p.resolve(rt.mapped.Load()); err != nil {
			return false, backends.Fail(ErrArgument, s.Op, s.String(), "%v", err)
		}
		again, err := p.lockAll(ctx, rt, s)
		if !again || err != nil {
			return len(p.uses) > 0, err
		}
	}
}

// lockAll locks what resolve found. It says whether to look again: a mapped slice has become the program's own in between.
func (p *placed) lockAll(ctx context.Context, rt *Runtime, s *dispatch.Shape) (again bool, err error) {
	for _, u := range p.uses {
		if u.buffer.rt != rt {
			return false, backends.Fail(ErrArgument, s.Op, s.String(), "a buffer is another runtime's")
		}
		if _, err := u.buffer.lock.enter(ctx); err != nil {
			return false, err
		}
		p.locked++
		switch {
		case u.buffer.closed && u.buffer.mapped && !rt.closed.Load(): // after that a closed one is in the list still
			return true, nil
		case u.buffer.closed:
			return false, backends.Fail(ErrClosed, s.Op, s.String(), "a buffer or the runtime was closed")
		case u.buffer.held:
			return false, backends.Fail(ErrBlocked, s.Op, s.String(), "an earlier call still has a buffer")
		}
		p.operands = append(p.operands, dispatch.Operand{Residence: &u.buffer.where, Read: u.read, Written: u.written})
	}
	return false, nil
}

// bring sees to it that what the arm reads is in its memory, and that there is room for what it writes, and fills in the addresses.
func (p *placed) bring(rt *Runtime, m *arm) error {
	if p == nil {
		return nil
	}
	p.began = false
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
	p.began = true
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

// failed records that an arm has not, or that nobody has waited for its answer: copies that were made for it stay, and what it may have written is believed as the error says.
func (p *placed) failed(m *arm, err error) {
	refused := errors.Is(err, backends.ErrUnsupported) || errors.Is(err, backends.ErrMemory)                          // it could not begin
	answered := !errors.Is(err, backends.ErrBackend) && !errors.Is(err, backends.ErrUnsupported)                      // a cancelled call, or a value that is not finite: what it wrote is where it ran, as much as there is
	wrong := errors.Is(err, ErrWrong)                                                                                 // computing it again has said so
	spoils := !refused && !answered && (m.kernel.Memory != 0 || m.kernel.Op == backends.OpMatMul || wrong) && p.began // others work in place only once nothing can go wrong
	answered = answered && p.began
	gone := p.gone
	for i := range p.uses {
		u := &p.uses[i]
		has := u.buffer.where.In | u.brought
		u.brought = 0
		switch left := has &^ (1 << m.kernel.Memory); {
		case !u.written || gone:
		case answered:
			has = 1 << m.kernel.Memory
		case spoils:
			p.gone = p.gone || left == 0 && u.read && !wrong // what was read and written over fails as Check.InPlace says
			has = cmp.Or(left, has)
		}
		u.buffer.where.In = has
	}
}
