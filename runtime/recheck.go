// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"log/slog"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/internal/recheck"
)

// defaultRecheck is of how many calls of a kernel one is held against pure Go: what that costs is lost in a call's own time, and a processor that computes wrongly is found within seconds of work.
const defaultRecheck = 10_000

// part takes what is needed of a call to compute a part of it again; nothing of one whose results are not canonical.
func (rt *Runtime) part(m *arm, a any, calls int64) recheck.Check {
	if m.kernel.Fast || m.backend.Name() == cpu.Name {
		return recheck.Check{}
	}
	draws := uint64(0)
	return recheck.Take(m.kernel.Op, a, func(n int) int {
		draws++
		return int(canon.Choose(uint64(calls), draws, uint64(n)))
	})
}

// partPlaced is part for a call on buffers, and what to call instead of the kernel: only there they have been brought to it. From a device's memory what is read comes home before the kernel, what was written after it. How long that took is no time of the kernel's.
func partPlaced[A any](rt *Runtime, m *arm, p *placed, a A, do func(*arm, A) error, calls int64) (recheck.Check, func(*arm, A) error, *time.Duration) {
	c, moving := rt.part(m, a, calls), new(time.Duration)
	if c.Compare == nil {
		return c, do, moving
	}
	placed := recheck.Check{InPlace: c.InPlace, Compare: func() string { return c.Compare() }}
	return placed, func(m *arm, a A) error {
		begin := time.Now()
		known := p.fetch(rt, m, false)
		if known {
			c = rt.part(m, a, calls)
		}
		*moving = time.Since(begin)
		if err := do(m, a); err != nil {
			return err
		}
		begin = time.Now()
		if !known || !p.fetch(rt, m, true) {
			c.Compare = func() string { return "" } // not known, for a failed copy: that is not the kernel's fault
		}
		*moving += time.Since(begin)
		return nil
	}, moving
}

// fetch brings home what a call reads, or what it has written on a device. It says whether it could. What a processor's kernel has is at home.
func (p *placed) fetch(rt *Runtime, m *arm, written bool) bool {
	if dispatch.Memory(m.kernel.Memory) == dispatch.Host {
		return true
	}
	for i := range p.uses {
		u := &p.uses[i]
		b := u.buffer
		if written && !u.written || !written && (!u.read || (b.where.In|u.brought).Has(dispatch.Host)) {
			continue
		}
		if written { // the device has it alone, and home is not what was there before the call
			b.where.In, u.brought = 1<<m.kernel.Memory, 0
		}
		if rt.memories[m.kernel.Memory].memory.Download(backends.Bytes(b.host), b.at[m.kernel.Memory]) != nil {
			return false
		}
		if !written {
			u.brought |= 1 << dispatch.Host
		}
	}
	return true
}

// compare computes the part again. A kernel that has it otherwise is not used again in this process: what it returned before cannot be trusted either, and the report says so.
func (rt *Runtime) compare(m *arm, s *dispatch.Shape, arm int, c recheck.Check) error {
	m.stats.rechecks.Add(1)
	text := c.Compare()
	if text == "" {
		return nil
	}
	err := backends.OnBackend(backends.Fail(ErrWrong, s.Op, s.String(), "%s", text), m.name)
	rt.retire(s.Op, arm)
	if rt.log != nil {
		rt.log.Error("setun: kernel quarantined, it computes wrongly", slog.String("op", s.Op.String()), slog.String("kernel", m.name), slog.Any("cause", err))
	}
	return err
}
