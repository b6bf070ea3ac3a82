// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// defaultPatience is for how long after the end of its context a call waits for a kernel that was told so: those that look at all do within a millisecond or so.
const defaultPatience = time.Second

// flight is a call whose caller may leave it.
type flight struct {
	inside   atomic.Bool // the kernel, and no longer copying what it needs
	left     atomic.Bool // by its caller, or by the call: whoever is first
	returned chan error
}

// calling brings a kernel what it needs and calls it. A context that can end is not outlived for much longer than rt.patience: the caller goes on, and the call is left to itself with all that it was given. Some time is added for how long the call takes, since not all can be
// cut short: a step that has begun to change parameters completes.
func calling[A any](ctx context.Context, rt *Runtime, m *arm, p *placed, a A, do func(*arm, A) error, predicted float64) (left bool, err error) {
	if ctx.Done() == nil || !m.foreign && !p.abroad() {
		if err := p.bring(rt, m); err != nil {
			return false, err
		}
		return false, direct(m, a, do)
	}
	f := &flight{returned: make(chan error, 1)}
	go func() {
		err := p.bring(rt, m)
		if err == nil {
			f.inside.Store(true)
			err = direct(m, a, do)
		}
		if !f.left.Swap(true) {
			f.returned <- err
			return
		}
		onBuffers := p != nil
		p.returned(m, err)
		rt.back(m, onBuffers)
	}()
	select {
	case err := <-f.returned:
		return false, err
	case <-ctx.Done():
	}
	patience := rt.patience + time.Duration(min(4*predicted, float64(time.Hour)))
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case err := <-f.returned:
		return false, err
	case <-wait.C:
	}
	err = &backends.Error{Op: m.kernel.Op.String(), Detail: ctx.Err().Error() + " " + patience.String() + " ago, and what it writes to is still in use", Err: errors.Join(ErrBlocked, ctx.Err())}
	rt.away(m, p != nil, f.inside.Load() || m.kernel.Memory != 0, err)
	if f.left.Swap(true) { // it has come back in this moment
		rt.back(m, p != nil)
		return false, <-f.returned
	}
	p.leave()
	return true, err
}

func direct[A any](m *arm, a A, do func(*arm, A) error) error {
	if m.used.Load() {
		return do(m, a)
	}
	return firstCall(m, a, do)
}

// away counts a call that does not return. Its arm rests until all those have that do not, but for one of pure Go and one that waits for copies from another's device.
func (rt *Runtime) away(m *arm, onBuffers, rests bool, cause error) {
	if onBuffers {
		rt.held.Add(1)
	}
	c := &m.condition
	c.mutex.Lock()
	c.blocked++
	if rests = rests && m.foreign; rests {
		c.retry.Store(math.MaxInt64)
		rt.failed[m.kernel.Op].Or(1 << slices.Index(rt.arms[m.kernel.Op], m))
	}
	c.mutex.Unlock()
	if rests && rt.log != nil {
		rt.log.Error("setun: kernel does not return and rests until it does", slog.String("op", m.kernel.Op.String()), slog.String("kernel", m.name), slog.Any("cause", cause))
	}
}

// back has an arm tried again all of whose calls have returned after all, unless it is out of the choice for good.
func (rt *Runtime) back(m *arm, onBuffers bool) {
	c := &m.condition
	c.mutex.Lock()
	c.blocked--
	if c.blocked == 0 && c.state.Health != dispatch.Quarantined && c.away() {
		c.retry.Store(rt.clock())
	}
	c.mutex.Unlock()
	if onBuffers {
		rt.held.Add(-1)
	}
}

// blocked says how many calls of a backend have not returned, though nobody waits for them. Those on buffers may have something on any device.
func (rt *Runtime) blocked(home int) (n int64) {
	for _, arms := range rt.arms {
		for _, m := range arms {
			if m.home == home {
				m.condition.mutex.Lock()
				n += m.condition.blocked
				m.condition.mutex.Unlock()
			}
		}
	}
	if backends.DeviceOf(rt.backends[home]) != nil {
		n = max(n, rt.held.Load())
	}
	return n
}

// put gives an argument back to its pool, unless a kernel that does not return has it still.
func put[T any](pool *sync.Pool, a *T, err error) {
	if errors.Is(err, ErrBlocked) {
		return
	}
	*a = *new(T)
	pool.Put(a)
}
