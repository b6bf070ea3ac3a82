// SPDX-License-Identifier: Apache-2.0

package dispatch

import "math"

// Memory numbers a memory that kernels read and write: Host, or a device's, from 1 on.
type Memory uint8

// Host is the memory of the program.
const Host Memory = 0

// NumMemories is how many memories there may be.
const NumMemories = 8

// Spaces is a set of memories.
type Spaces uint8

// Has tells whether a memory is in the set.
func (s Spaces) Has(m Memory) bool { return s>>m&1 != 0 }

// Link is what copying between the host's memory and a device's takes: a price for each copy, and one for each byte of it. All are nanoseconds.
type Link struct {
	Memory Memory  `json:"memory"` // the device's
	Launch float64 `json:"launch"`
	Up     float64 `json:"up"`   // a byte, to the device
	Down   float64 `json:"down"` // a byte, from it
}

// priorLink is for a device of which nothing was measured: 16 lanes of PCI Express 4 from memory that is not pinned.
var priorLink = Link{Launch: 10_000, Up: 1. / 12, Down: 1. / 12}

// Residence is where the content of a buffer is, kept by who owns the buffer and changed by [Router.Settle]. The zero value is nowhere: a buffer that has no content yet. It is not safe for concurrent use.
type Residence struct {
	Bytes float64
	In    Spaces // memories that hold the content
	Pin   bool   // the program's own memory: what is written must be back in the host's when the call ends, and no copy outlives the call

	// earned is, for each memory, what calls would have saved had the content been there, up to what bringing it there takes.
	earned [NumMemories]float64
}

// Operand is a buffer of a call, and what the call does to it.
type Operand struct {
	*Residence
	Read, Written bool
}

// Overwrite says that the program itself has put new content into a memory. What calls would have saved with the old one is no reason to move the new one.
func (r *Residence) Overwrite(m Memory) { r.In, r.earned = 1<<m, [NumMemories]float64{} }

// moves is what a call's operands cost to be where an arm wants them, by memory: what it takes, and what of that counts in the choice.
type moves struct{ takes, counts [NumMemories]float64 }

// bring is what bringing a buffer to a memory takes. From device to device it goes through the host.
func (r *Router) bring(x *Residence, to Memory) float64 {
	if x.In == 0 || x.In.Has(to) {
		return 0
	}
	t := math.Inf(1)
	for from := range Memory(NumMemories) {
		if x.In.Has(from) {
			t = min(t, r.links[from].down(x.Bytes)+r.links[to].up(x.Bytes))
		}
	}
	return t
}

// Hosted is what a call on slices of the program spends on copies over the link, in each of so many parts: its inputs to the device, its outputs back.
func (l *Link) Hosted(s *Shape, parts float64) float64 {
	in, out := s.traffic()
	return (l.up(in) + l.down(out)) / parts
}

func (l *Link) up(bytes float64) float64   { return l.Launch + l.Up*bytes }
func (l *Link) down(bytes float64) float64 { return l.Launch + l.Down*bytes }

// moves adds up what an arm in each memory has to wait for, in each of the call's parts: what it reads and is elsewhere, and what it writes and must be back. What a buffer has earned counts as paid: so one that calls would rather
// have elsewhere is moved once staying has cost as much as moving. Whatever comes later, no more than about twice what was needed is lost (the rule for renting skis: Karlin, Manasse, Rudolph and Sleator 1988).
func (r *Router) moves(s *Shape, operands []Operand) (m moves) {
	if operands == nil {
		return r.hosted(s)
	}
	parts := s.typicalParts()
	for to := range Memory(NumMemories) {
		for _, o := range operands {
			if o.Read {
				t := r.bring(o.Residence, to)
				m.takes[to] += t
				m.counts[to] += max(0, t-o.earned[to])
			}
			if o.Written && o.Pin && to != Host {
				t := r.links[to].down(o.Bytes)
				m.takes[to] += t
				m.counts[to] += t
			}
		}
		m.takes[to] /= parts
		m.counts[to] /= parts
	}
	return m
}

// hosted is what moves take for a call whose operands are slices of the program: its inputs to the device, its outputs back. A fit of k-means moves them once for all its iterations, of
// which there are typicalIterations.
func (r *Router) hosted(s *Shape) (m moves) {
	parts := s.typicalParts()
	for to := Memory(1); to < NumMemories; to++ {
		m.takes[to] = r.links[to].Hosted(s, parts)
	}
	m.counts = m.takes
	return m
}

// DecideAt chooses the arm for a call whose operands may be in the memory of devices: the time of each arm includes moving what it needs and is elsewhere. Decide is the same for
// slices of the program. It changes nothing; tell what ran with Settle.
func (r *Router) DecideAt(s *Shape, operands []Operand, excluded uint64) Decision {
	d := r.Decide(s, excluded)
	if d.Arm >= 0 && r.devices[s.Op] {
		open, _ := r.narrow(s.Op, r.Open(s)&^excluded, s.Work())
		d.Arm, d.Nanos, d.Moving = r.nearest(s, operands, open)
	}
	return d
}

// nearest is the arm of a bit mask that is fastest with what has to be moved, its time, and what of that moving takes.
func (r *Router) nearest(s *Shape, operands []Operand, open uint64) (arm int, nanos, moving float64) {
	m, f, work := r.moves(s, operands), s.features(), s.Work()
	least := math.Inf(1)
	for i, a := range r.arms[s.Op] {
		if open&(1<<i) == 0 || work < r.entries[s.Op][i].from {
			continue
		}
		t, _ := r.expects(s, i, &f)
		if counts := t + m.counts[a.Memory]; counts < least {
			least, arm, nanos, moving = counts, i, t+m.takes[a.Memory], m.takes[a.Memory]
		}
	}
	return arm, nanos, moving
}

// Settle records that a call has run on an arm: where its operands are now, and what they would have saved elsewhere. Kernels that move what they need themselves leave copies where they ran.
func (r *Router) Settle(s *Shape, operands []Operand, arm int) {
	if s.Op >= numOps || arm < 0 || arm >= len(r.arms[s.Op]) {
		return
	}
	m, f := r.moves(s, operands), s.features()
	at := r.arms[s.Op][arm].Memory
	ran, _ := r.expects(s, arm, &f)
	ran += m.takes[at]
	var best [NumMemories]float64 // in each memory, once everything is there
	for i, a := range r.arms[s.Op] {
		if r.allowed[s.Op]&(1<<i) != 0 && (s.Fast || !a.Fast) {
			if t, _ := r.expects(s, i, &f); best[a.Memory] == 0 || t < best[a.Memory] {
				best[a.Memory] = t
			}
		}
	}
	parts := s.typicalParts() // times are of one
	for to := range Memory(NumMemories) {
		back := m.takes[to] * parts
		for _, o := range operands {
			if o.Read {
				back -= r.bring(o.Residence, to)
			}
		}
		gain, missing := (ran-best[to])*parts-back, m.takes[to]*parts-back
		if to == at || best[to] == 0 || gain <= 0 || missing <= 0 {
			continue
		}
		for _, o := range operands {
			if o.Read {
				t := r.bring(o.Residence, to)
				o.earned[to] = min(o.earned[to]+gain*t/missing, t)
			}
		}
	}
	for _, o := range operands {
		switch {
		case o.Pin:
			o.In = 1 << Host
		case o.Written:
			o.In = 1 << at
		case o.Read:
			o.In |= 1 << at
		}
		if o.In.Has(at) {
			o.earned[at] = 0
		}
	}
}
