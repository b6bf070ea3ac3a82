// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"log/slog"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// condition is an arm's health. It changes rarely: while all is well a call reads one flag.
type condition struct {
	ill   atomic.Bool  // it is not healthy
	retry atomic.Int64 // when it may be tried again, in nanoseconds since the runtime was opened

	mutex   sync.Mutex
	state   dispatch.Condition
	blocked int64 // calls that were left because they do not return, and have not yet
}

// away says whether the arm is not tried again before something else has happened: a call that does not return does, or nothing any more.
func (c *condition) away() bool { return c.retry.Load() == math.MaxInt64 }

func (m *arm) health() dispatch.Health {
	m.condition.mutex.Lock()
	defer m.condition.mutex.Unlock()
	return m.condition.state.Health
}

// clock is how long the runtime has been open, in nanoseconds. It never goes back.
func (rt *Runtime) clock() int64 { return int64(time.Since(rt.opened)) }

// happened changes an arm's health after a call, and takes it out of the choice for a while, or for good, if it must.
func (rt *Runtime) happened(op backends.Op, i int, h dispatch.Happening, cause error) {
	m := rt.arms[op][i]
	c := &m.condition
	c.mutex.Lock()
	before, clock := c.state, rt.clock()
	if h == dispatch.Failed && before.Health == dispatch.Suspect && clock < c.retry.Load() {
		c.mutex.Unlock() // the call began before the one that made it rest had ended: many at once are one failure
		return
	}
	c.state = before.After(h)
	now := c.state
	c.ill.Store(now.Health != dispatch.Healthy)
	switch now.Health {
	case dispatch.Suspect:
		if c.away() {
			break
		}
		c.retry.Store(clock + int64(now.Rest))
		rt.failed[op].Or(1 << i)
	case dispatch.Quarantined:
		c.retry.Store(math.MaxInt64)
		rt.failed[op].Or(1 << i)
	}
	c.mutex.Unlock()
	if rt.log == nil {
		return
	}
	about := []any{slog.String("op", op.String()), slog.String("kernel", m.name)}
	switch {
	case now.Health == dispatch.Quarantined && before.Health != dispatch.Quarantined:
		rt.log.Error("setun: kernel quarantined", append(about, slog.Int("failures", now.Strikes), slog.Any("cause", cause))...)
	case now.Health == dispatch.Suspect:
		rt.log.Warn("setun: kernel failed and rests", append(about, slog.Duration("rest", now.Rest), slog.Any("cause", cause))...)
	case before.Health == dispatch.Suspect:
		rt.log.Info("setun: kernel is well again", about...)
	}
}

// resting returns the arms of an op that may not run now. Without failures it is one load.
func (rt *Runtime) resting(op backends.Op) uint64 {
	mask := rt.failed[op].Load()
	if mask == 0 {
		return 0
	}
	now := rt.clock()
	for left := mask; left != 0; left &= left - 1 {
		i := bits.TrailingZeros64(left)
		if now >= rt.arms[op][i].condition.retry.Load() {
			rt.failed[op].And(^(uint64(1) << i))
			if now < rt.arms[op][i].condition.retry.Load() { // it has failed meanwhile: rest, then bit
				rt.failed[op].Or(1 << i)
				continue
			}
			mask &^= 1 << i
		}
	}
	return mask
}

// quarantined returns the arms of an op that never run again.
func (rt *Runtime) quarantined(op backends.Op) (mask uint64) {
	for i, m := range rt.arms[op] {
		if m.health() == dispatch.Quarantined {
			mask |= 1 << i
		}
	}
	return mask
}

// refusing returns the arms of an op that do not have such calls, as they said the last time.
func (rt *Runtime) refusing(s *dispatch.Shape) (mask uint64) {
	for i, m := range rt.arms[s.Op] {
		if m.refused.Load()&variantBit(s) != 0 {
			mask |= 1 << i
		}
	}
	return mask
}

func variantBit(s *dispatch.Shape) uint32 { return 1 << (s.Variant &^ dispatch.Beside) }

// tell logs the drifts that were learned.
func (rt *Runtime) tell(drifts []dispatch.Drift) {
	if rt.log == nil {
		return
	}
	for _, d := range drifts {
		rt.log.Info("setun: kernel takes longer or shorter than it did", slog.String("op", d.Op.String()), slog.String("kernel", rt.arms[d.Op][d.Arm].name), slog.Float64("times", d.Factor))
	}
}
