// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/recheck"
	"github.com/setun-compute/setun/internal/trace"
)

const (
	// Reading the clock twice costs as much as a small call does. So a call predicted to take timedNanos is always timed, of shorter ones as many as keep that below a
	// hundredth of the time, but one in sampleEvery at least; and an arm's first calls more often: all of the first 16, then every second one, and so on.
	timedNanos  = 8_000
	sampleEvery = 64
	alwaysFirst = 16
)

// run routes a call: it decides, calls do with the chosen arm, records, and moves on to the next best arm when the backend fails.
// parts tells how many equal parts do had (iterations of k-means), so that times compare with predictions, and which variant the call turned out to be.
//
// do is a plain function with its argument beside it, not a closure, so that a call allocates nothing.
func run[A any](rt *Runtime, s *dispatch.Shape, a A, do func(*arm, A) error, parts func(A, dispatch.Variant) (int, dispatch.Variant)) error {
	return runPlaced(context.Background(), rt, 0, nil, s, a, do, parts)
}

// runPlaced is run without the arms of a bit mask, for a context that may end and a call on buffers; p is nil when there are none.
func runPlaced[A any](ctx context.Context, rt *Runtime, without uint64, p *placed, s *dispatch.Shape, a A, do func(*arm, A) error, parts func(A, dispatch.Variant) (int, dispatch.Variant)) error {
	left := false // by us, and with all that it works with, a call that does not return
	if p != nil {
		defer func(p *placed) {
			if !left {
				p.release()
			}
		}(p)
	}
	entered := rt.traffic.enter()
	defer rt.traffic.leave()
	if !alone(entered) {
		s.Variant |= dispatch.Beside
	}
	if rt.closed.Load() {
		return backends.Fail(ErrClosed, s.Op, s.String(), "Close was called")
	}
	if p != nil {
		any, err := p.lock(ctx, rt, s)
		if err != nil {
			return err
		}
		if any {
			without |= rt.unplaced[s.Op]
		} else { // slices that lie in no buffer
			p = nil
		}
	}
	excluded := rt.resting(s.Op) | without
	var first error
	for {
		router := rt.router.Load()
		d := decide(router, s, p, excluded)
		if d.Arm < 0 && excluded != without && first == nil {
			excluded = without | rt.quarantined(s.Op) // everything else is resting: rather try again than refuse
			d = decide(router, s, p, excluded)
		}
		if d.Arm < 0 {
			if first != nil {
				return first
			}
			return backends.Fail(ErrNoBackend, s.Op, s.String(), "%s", d.Reason)
		}
		trial := -1
		if probe := rt.probes[s.Op].Load(); probe != nil && p == nil && first == nil { // one that has failed has cost enough, and so has moving buffers
			if trial = rt.probe(probe, s, excluded, mostParts(a)); trial >= 0 {
				d.Arm = trial
			}
		}
		m := rt.arms[s.Op][d.Arm]
		calls := m.stats.calls.Add(1)
		weight := int64(0) // how many calls the timing of this one stands for
		if d.Nanos >= timedNanos || rt.observer != nil || rt.trace != nil || trial >= 0 {
			weight = 1
		} else if every := sampled(calls, d.Nanos); calls&(every-1) == 0 {
			weight = every
		}
		var again recheck.Check
		do, moving := do, (*time.Duration)(nil)
		if rt.recheck > 0 && calls%rt.recheck == 0 {
			if p != nil {
				again, do, moving = partPlaced(rt, m, p, a, do, calls)
			} else {
				again = rt.part(m, a, calls)
			}
		}
		place := -1
		if m.foreign {
			var err error
			if place, err = rt.gate.enter(ctx); err != nil {
				return err
			}
			rt.note(place, m, s)
		}
		var begin time.Time
		if weight > 0 {
			begin = time.Now()
		}
		var err error
		left, err = calling(ctx, rt, m, p, a, do, d.Nanos*mostParts(a))
		if m.foreign {
			rt.unnote(place, m)
			rt.gate.leave(place)
		}
		if left { // the argument is the kernel's: not even a look at it
			return backends.OnBackend(err, m.name)
		}
		if weight > 0 {
			took := time.Since(begin)
			if moving != nil {
				took -= *moving
			}
			m.stats.nanos.Add(weight * int64(took))
			had, variant := parts(a, s.Variant)
			had = max(1, had)
			each := float64(took) / float64(had)
			if rt.observer != nil {
				rt.observer(Event{Op: s.Op.String(), Shape: s.String(), Kernel: m.name, Predicted: d.Nanos, Measured: each, Err: err})
			}
			if err == nil && rt.trace != nil && !s.Listed() { // a replay would have any arm do it
				was := *s
				was.Variant = variant
				rt.trace.Add(trace.NewCall(&was, m.name, each, float64(had)))
			}
			calm := rt.traffic.calm(entered) // what others took part in says little of the kernel
			if rt.learning != nil && (err == nil && calm || trial >= 0) {
				was := *s
				if was.Variant = variant; !calm {
					was.Variant |= dispatch.Beside
				}
				moving := d.Moving
				if trial >= 0 { // the decision was about another arm
					moving = router.Decide(s, ^(uint64(1) << trial)).Moving
				}
				rt.learn(dispatch.Observation{Shape: was, Arm: d.Arm, Nanos: each, Moving: moving, Parts: float64(had), Most: mostParts(a), Weight: float64(weight), Probe: trial >= 0, Failed: err != nil, Without: excluded}, &m.stats, d.Nanos)
			}
		}
		if err == nil && again.Compare != nil {
			err = rt.compare(m, s, d.Arm, again)
		}
		if p != nil {
			if err == nil {
				p.settle(router, s, d.Arm)
			} else {
				p.failed(m, err)
			}
		}
		if err == nil {
			m.stats.bytes.Add(int64(s.Bytes()))
			if m.refused.Load() != 0 {
				m.refused.And(^variantBit(s))
			}
			if m.condition.ill.Load() {
				rt.happened(s.Op, d.Arm, dispatch.Answered, nil)
			}
			return nil
		}
		if !errors.Is(err, backends.ErrBackend) && !errors.Is(err, backends.ErrUnsupported) {
			return backends.OnBackend(err, m.name) // the caller's own mistake, or a cancelled context
		}
		if first == nil {
			first = err
		}
		if errors.Is(err, backends.ErrLost) && (p == nil || !p.foreign) {
			rt.lose(m.home, err)
		}
		if p != nil && p.gone || again.InPlace && errors.Is(err, backends.ErrWrong) {
			return err
		}
		if rt.strict {
			return fmt.Errorf("%w: %w", ErrStrict, err)
		}
		m.stats.fallbacks.Add(1)
		excluded |= 1 << d.Arm
		switch {
		case errors.Is(err, backends.ErrLost), errors.Is(err, backends.ErrWrong):
			excluded |= rt.quarantined(s.Op) // the device's other arms too
		case errors.Is(err, backends.ErrMemory):
			rt.short(s.Op, d.Arm, err)
		case errors.Is(err, backends.ErrBackend):
			rt.happened(s.Op, d.Arm, dispatch.Failed, err)
		default:
			m.refused.Or(variantBit(s))
		}
	}
}

// decide chooses the arm for a call on slices, or on buffers wherever they are.
func decide(r *dispatch.Router, s *dispatch.Shape, p *placed, excluded uint64) dispatch.Decision {
	if p == nil {
		return r.Decide(s, excluded)
	}
	return r.DecideAt(s, p.operands, excluded)
}

// sampled tells of how many short calls one is timed: a power of two.
func sampled(calls int64, predicted float64) int64 {
	return min(int64(1)<<bits.Len64(uint64(calls)/alwaysFirst), int64(1)<<bits.Len64(uint64(timedNanos/max(predicted, 1))), sampleEvery)
}

// mostParts is how many parts a call may have, as far as is known before it.
func mostParts[A any](a A) float64 {
	switch k := any(a).(type) {
	case *backends.KMeans:
		return float64(k.MaxIter)
	case *backends.KMeansMany:
		return float64(k.Fits[0].MaxIter)
	}
	return 1
}

func once[A any](_ A, v dispatch.Variant) (int, dispatch.Variant) { return 1, v }

// given returns ctx, or the background for the nil that a caller may have passed.
func given(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}

// watch sets the flag when ctx ends. It returns nil for a context that never does, and a function to call afterwards.
func watch(ctx context.Context) (*atomic.Int32, func() bool) {
	if ctx.Done() == nil {
		return nil, func() bool { return true }
	}
	flag := new(atomic.Int32)
	return flag, context.AfterFunc(ctx, func() { flag.Store(1) })
}

// finished replaces a kernel's "cancelled" by the context's own error.
func finished(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil && !errors.Is(err, ErrBlocked) {
		return ctx.Err()
	}
	return err
}
