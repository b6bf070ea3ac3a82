// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"log/slog"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/internal/recheck"
)

// defaultRecheck is of how many calls of a kernel one is held against pure Go: what that costs is lost in a call's own time, and a processor that computes wrongly is found within seconds of work.
const defaultRecheck = 10_000

// part takes what is needed of a call to compute a part of it again; nothing of one whose results are not canonical, or lie on a device.
func (rt *Runtime) part(m *arm, s *dispatch.Shape, p *placed, a any, calls int64) recheck.Check {
	if m.kernel.Fast || m.kernel.Memory != 0 && p != nil || m.backend.Name() == cpu.Name {
		return recheck.Check{}
	}
	draws := uint64(0)
	return recheck.Take(s.Op, a, func(n int) int {
		draws++
		return int(canon.Choose(uint64(calls), draws, uint64(n)))
	})
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
