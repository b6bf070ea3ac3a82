// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// device is that of a backend.
type device struct {
	memory    backends.Device
	home, row int                                 // of the backend in the runtime's list and in its report
	info      atomic.Pointer[backends.DeviceInfo] // the latest; nil: unknown
	lost      atomic.Pointer[string]              // why
}

// newDevice asks a device what it is, and writes that into the report.
func newDevice(memory backends.Device, home, row int, r *Report) *device {
	d := &device{memory: memory, home: home, row: row}
	d.report(&r.Backends[row], false)
	return d
}

// report fills in how the device is now, or how it was when the runtime was closed.
func (d *device) report(b *BackendReport, closed bool) {
	if !closed {
		if i, err := d.memory.Info(); err == nil {
			d.info.Store(&i)
		}
	}
	b.Device = d.info.Load()
	if cause := d.lost.Load(); cause != nil {
		b.State, b.Reason = "lost", *cause
	}
}

// holds says whether buffers can be in a memory of a backend: in that of its device, unless another backend's has the same number.
func (rt *Runtime) holds(memory uint8, home int) bool {
	if memory >= dispatch.NumMemories {
		return false
	}
	for _, d := range rt.devices {
		if d.home == home && rt.memories[memory] == nil {
			rt.memories[memory] = d
		}
	}
	d := rt.memories[memory]
	return d != nil && d.home == home
}

// lose retires all arms of a backend whose device is gone: none of them can work again in this process.
func (rt *Runtime) lose(home int, cause error) {
	now := false
	for op, arms := range rt.arms {
		for i, other := range arms {
			if other.home == home && rt.retire(backends.Op(op), i) {
				now = true
			}
		}
	}
	for _, d := range rt.devices {
		if text := cause.Error(); d.home == home {
			d.lost.CompareAndSwap(nil, &text)
		}
	}
	if now && rt.log != nil {
		rt.log.Error("setun: device lost, its kernels are quarantined", slog.String("backend", rt.backends[home].Name()), slog.Any("cause", cause))
	}
}

// retire quarantines an arm. It tells whether that is new.
func (rt *Runtime) retire(op backends.Op, i int) bool {
	c := &rt.arms[op][i].condition
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.state.Health == dispatch.Quarantined {
		return false
	}
	c.state = dispatch.Condition{Health: dispatch.Quarantined, Strikes: c.state.Strikes + 1}
	c.ill.Store(true)
	c.retry.Store(math.MaxInt64)
	rt.failed[op].Or(1 << i)
	return true
}

// shortRest is for how long an arm is left alone that had no memory for a call: others may give theirs back, and smaller calls may fit.
const shortRest = 100 * time.Millisecond

// short makes an arm rest that had no memory for a call. That is no sign of ill health.
func (rt *Runtime) short(op backends.Op, i int, cause error) {
	m := rt.arms[op][i]
	c := &m.condition
	c.mutex.Lock()
	if c.state.Health == dispatch.Healthy && !c.away() {
		c.retry.Store(rt.clock() + int64(shortRest))
		rt.failed[op].Or(1 << i)
	}
	c.mutex.Unlock()
	if rt.log != nil {
		rt.log.Warn("setun: no memory for a call", slog.String("op", op.String()), slog.String("kernel", m.name), slog.Any("cause", cause))
	}
}
