// SPDX-License-Identifier: Apache-2.0

package lloyd

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/setun-compute/setun/backends"
)

// Group does the steps that fits wait for, those of one kind: steps[i] is that of fit i, nil when it waits for none of the kind. An error is that of all of them, but with
// backends.ErrNonFinite Stopped is not 0 of the steps that have such values.
type Group func(kind Kind, steps []*Step) error

// Together runs fits side by side. Each waits at every step until all that are not done have come to one, and then group does those. of returns what a fit has beside steps, on
// the fit's own goroutine. When a fit fails the others stop where they meet next. The error is that of the first of those that failed by themselves, and which one that was; a group's error is none's: −1.
func Together(ctx context.Context, fits []*backends.KMeans, of func(i int) Steps, group Group) (int, error) {
	t := &together{group: group, running: len(fits), steps: make([]*Step, len(fits)), now: make([]*Step, len(fits)), wake: make([]chan error, len(fits))}
	errs := make([]error, len(fits))
	var all sync.WaitGroup
	for i, a := range fits {
		t.wake[i] = make(chan error, 1)
		all.Go(func() {
			steps := of(i)
			steps.Step, steps.Iterates = func(s *Step) error { return t.step(i, s) }, true
			errs[i] = Run(ctx, a, steps)
			t.leave(errs[i] != nil)
		})
	}
	all.Wait()
	switch {
	case ctx.Err() != nil:
		return -1, ctx.Err()
	case errors.Is(t.err, backends.ErrNonFinite), errors.Is(t.err, context.Canceled):
		return -1, backends.Fail(backends.ErrBackend, backends.OpKMeans, fits[0].Shape(), "stopped without a reason: %v", t.err)
	case t.err != nil:
		return -1, t.err
	}
	for i, err := range errs {
		if err != nil && err != errStop {
			return i, err
		}
	}
	return -1, nil
}

// errStop tells a fit to stop, for another one has failed.
var errStop = errors.New("another fit has failed")

// together is where fits meet.
type together struct {
	group Group
	mu    sync.Mutex
	steps []*Step      // by fit, what it waits for
	now   []*Step      // of those, the ones of a kind
	wake  []chan error // by fit, with room for one
	// Fits that wait, and fits that are not done.
	waiting, running int
	failed           bool  // a fit has, so that the others are to stop
	err              error // of the group
}

// step waits until fit i's step is done.
func (t *together) step(i int, s *Step) error {
	t.mu.Lock()
	t.steps[i] = s
	t.waiting++
	t.meet()
	t.mu.Unlock()
	return <-t.wake[i]
}

// leave says that a fit is done.
func (t *together) leave(failed bool) {
	t.mu.Lock()
	t.running--
	t.failed = t.failed || failed
	t.meet()
	t.mu.Unlock()
}

// meet does what all wait for, once all do.
func (t *together) meet() {
	if t.waiting < t.running || t.running == 0 {
		return
	}
	results := make([]error, len(t.steps))
	for kind := Range; kind <= Seed; kind++ {
		t.do(kind, results)
	}
	for i, s := range t.steps {
		if s != nil {
			t.steps[i] = nil
			t.wake[i] <- results[i]
		}
	}
	t.waiting = 0
}

// do does the steps of a kind, if there are any and no fit has failed.
func (t *together) do(kind Kind, results []error) {
	some := false
	for i, s := range t.steps {
		t.now[i] = nil
		if s != nil && s.Kind == kind {
			t.now[i], some = s, true
		}
	}
	if !some {
		return
	}
	err := errStop
	if !t.failed && t.err == nil {
		err = t.group(kind, t.now)
	}
	apart := errors.Is(err, backends.ErrNonFinite) && slices.ContainsFunc(t.now, func(s *Step) bool { return s != nil && s.Stopped != All })
	if !apart && err != errStop {
		t.err = cmp.Or(t.err, err)
	}
	for i, s := range t.now {
		switch {
		case s == nil:
		case apart && s.Stopped == All, err != nil && !apart: // the error is not this fit's
			results[i] = errStop
		default:
			results[i] = err
		}
	}
}
