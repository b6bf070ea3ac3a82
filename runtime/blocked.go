// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/setun-compute/setun/backends"
)

// defaultPatience is for how long after the end of its context a call waits for a kernel that was told so: those that look at all do within a millisecond or so.
const defaultPatience = time.Second

// calling calls a kernel. A context that can end is not outlived for much longer than rt.patience: the caller goes on, and the call is left to itself with all that it was given. Some time is added for how long the call takes, since not all can be
// cut short: a step that has begun to change parameters completes.
func calling[A any](ctx context.Context, rt *Runtime, m *arm, a A, do func(*arm, A) error, predicted float64) error {
	if ctx.Done() == nil || !m.foreign {
		return direct(m, a, do)
	}
	returned := make(chan error, 1)
	m.blocked.Add(1)
	go func() {
		err := direct(m, a, do)
		m.blocked.Add(-1)
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
		return &backends.Error{Op: m.kernel.Op.String(), Detail: ctx.Err().Error() + " " + patience.String() + " ago, and what it writes to is still in use", Err: errors.Join(ErrBlocked, ctx.Err())}
	}
}

func direct[A any](m *arm, a A, do func(*arm, A) error) error {
	if m.used.Load() {
		return do(m, a)
	}
	return firstCall(m, a, do)
}

// leave takes an arm out of the choice for good whose kernel does not return.
func (rt *Runtime) leave(op backends.Op, i int, cause error) {
	if rt.retire(op, i) && rt.log != nil {
		rt.log.Error("setun: kernel quarantined, it does not return", slog.String("op", op.String()), slog.String("kernel", rt.arms[op][i].name), slog.Any("cause", cause))
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
