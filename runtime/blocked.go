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

// calling calls a kernel. A context that can end is not outlived for much longer than rt.patience: the caller goes on, and the call is left to itself with all that it was given. Some time is added for how long the call takes, since not all can be
// cut short: a step that has begun to change parameters completes.
func calling[A any](ctx context.Context, rt *Runtime, m *arm, a A, do func(*arm, A) error, predicted float64) error {
	if ctx.Done() == nil || !m.foreign {
		return direct(m, a, do)
	}
	var left atomic.Bool // by its caller, or by the call: whoever is first
	returned := make(chan error, 1)
	m.blocked.Add(1)
	go func() {
		err := direct(m, a, do)
		m.blocked.Add(-1)
		if left.Swap(true) {
			rt.back(m)
		}
		returned <- err
	}()
	select {
	case err := <-returned:
		return err
	case <-ctx.Done():
	}
	patience := rt.patience + time.Duration(min(4*predicted, float64(time.Hour)))
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case err := <-returned:
		return err
	case <-wait.C:
	}
	err := &backends.Error{Op: m.kernel.Op.String(), Detail: ctx.Err().Error() + " " + patience.String() + " ago, and what it writes to is still in use", Err: errors.Join(ErrBlocked, ctx.Err())}
	rt.away(m, err)
	if left.Swap(true) { // it has come back in this moment
		rt.back(m)
		return <-returned
	}
	return err
}

func direct[A any](m *arm, a A, do func(*arm, A) error) error {
	if m.used.Load() {
		return do(m, a)
	}
	return firstCall(m, a, do)
}

// away makes an arm rest whose kernel does not return, for as long as it does not.
func (rt *Runtime) away(m *arm, cause error) {
	m.condition.retry.Store(math.MaxInt64)
	rt.failed[m.kernel.Op].Or(1 << slices.Index(rt.arms[m.kernel.Op], m))
	if rt.log != nil {
		rt.log.Error("setun: kernel does not return and rests until it does", slog.String("op", m.kernel.Op.String()), slog.String("kernel", m.name), slog.Any("cause", cause))
	}
}

// back has an arm whose kernel has returned after all tried again, unless it is out of the choice for good.
func (rt *Runtime) back(m *arm) {
	if m.health() != dispatch.Quarantined {
		m.condition.retry.Store(rt.clock())
	}
}

// blocked says whether kernels of a backend have not returned, though nobody waits for them.
func (rt *Runtime) blocked(home int) (n int64) {
	for _, arms := range rt.arms {
		for _, m := range arms {
			if m.home == home {
				n += m.blocked.Load()
			}
		}
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
