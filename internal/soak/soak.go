// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/setun-compute/setun/backends"
	setun "github.com/setun-compute/setun/runtime"
)

// Options say what runs. Only Duration and Folder have no default.
type Options struct {
	Duration time.Duration
	Workers  int               // goroutines that call; 64
	Seed     uint64            // of jobs and of what happens when
	Most     int               // values of the longest call; 200,000
	Chaos    bool              // a fault every Every
	Every    time.Duration     // a second
	Folder   string            // of profiles and what else is written; nobody else's
	Open     []setun.Option    // of all runtimes with native libraries
	Progress func(calls int64) // once a second; nil: nobody is told
}

// Report is what came of it.
type Report struct {
	Seconds  float64          `json:"seconds"`
	Calls    int64            `json:"calls"`
	Wrong    int64            `json:"wrong"`    // results that are not those of pure Go
	Errors   int64            `json:"errors"`   // that no fault explains
	Expected int64            `json:"expected"` // errors that a deadline or a fault explains
	First    []string         `json:"first,omitempty"`
	Kernels  map[string]int64 `json:"kernels"` // calls by kernel
	Faults   map[string]int   `json:"faults,omitempty"`

	Before Process `json:"before"` // anything was opened
	Mark   Process `json:"mark"`   // after a fifth of the time, between calls
	End    Process `json:"end"`    // before runtimes were closed, after the last call
	After  Process `json:"after"`  // that
}

// Growth is by what part resident memory grew from the mark to the end.
func (r *Report) Growth() float64 {
	if r.Mark.Resident == 0 {
		return 0
	}
	return float64(r.End.Resident)/float64(r.Mark.Resident) - 1
}

// test is a run.
type test struct {
	Options
	jobs     []*job
	runtimes []*opened
	victim   atomic.Pointer[setun.Runtime] // the one of the flaky backend; nil without chaos
	flaky    *flaky

	calls, wrong, errors, expected atomic.Int64
	mutex                          sync.Mutex
	first                          []string
	quiet                          sync.RWMutex // held for reading by calls, and by who wants none
	faults                         map[string]int
}

// opened is a runtime and the ops that it has a kernel for.
type opened struct {
	*setun.Runtime
	ops map[backends.Op]bool // nil: all
}

// Run keeps all kernels under load. The error is that of what could not begin; what went wrong under load is in the report.
func Run(ctx context.Context, o Options) (r Report, err error) {
	if o.Workers == 0 {
		o.Workers = 64
	}
	if o.Most == 0 {
		o.Most = 200_000
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	r.Before = measure()
	t := &test{Options: o, faults: map[string]int{}, flaky: newFlaky()}
	if err := t.open(); err != nil {
		return r, errors.Join(err, t.close())
	}
	begin := time.Now()
	running, stop := context.WithTimeout(ctx, o.Duration)
	defer stop()
	var all sync.WaitGroup
	for w := range o.Workers {
		all.Go(func() { t.work(running, rand.New(rand.NewPCG(o.Seed, uint64(w)+1))) })
	}
	if o.Chaos {
		all.Go(func() { t.chaos(running, rand.New(rand.NewPCG(o.Seed, 0))) })
		all.Go(func() { t.comings(running, rand.New(rand.NewPCG(o.Seed, 1<<32))) })
	}
	all.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		mark := time.After(o.Duration / 5)
		for {
			select {
			case <-running.Done():
				return
			case <-mark:
				t.quiet.Lock()
				r.Mark = measure()
				t.quiet.Unlock()
			case <-tick.C:
				if o.Progress != nil {
					o.Progress(t.calls.Load())
				}
			}
		}
	})
	all.Wait()
	r.End = measure()
	r.Kernels = t.kernels()
	if err := t.close(); err != nil {
		t.tell("close: %v", err)
	}
	t.jobs = nil
	r.After = measure()
	r.Seconds, r.Calls, r.Wrong, r.Errors, r.Expected = time.Since(begin).Seconds(), t.calls.Load(), t.wrong.Load(), t.errors.Load(), t.expected.Load()
	r.First, r.Faults = t.first, t.faults
	return r, nil
}

// tell notes an error.
func (t *test) tell(format string, args ...any) {
	t.errors.Add(1)
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if len(t.first) < 20 {
		t.first = append(t.first, fmt.Sprintf(format, args...))
	}
}

// open opens a runtime that chooses and learns, and one for each kernel that it has.
func (t *test) open() error {
	pure, err := setun.Open(setun.WithoutNative(), setun.WithProfile("none"), setun.WithoutLearning())
	if err != nil {
		return err
	}
	defer pure.Close()
	if t.jobs, err = newJobs(pure, rand.New(rand.NewPCG(t.Seed, 7)), 15, t.Most); err != nil {
		return err
	}
	free, err := setun.Open(append(slices.Clone(t.Open), setun.WithProfile(""), setun.WithoutSaving())...)
	if err != nil {
		return err
	}
	t.runtimes = append(t.runtimes, &opened{free, nil})
	has := map[string]map[backends.Op]bool{}
	for _, op := range backends.Ops() {
		for _, a := range free.Arms(op) {
			if has[a.String()] == nil {
				has[a.String()] = map[backends.Op]bool{}
			}
			has[a.String()][op] = true
		}
	}
	for name, ops := range has {
		rt, err := setun.Open(append(slices.Clone(t.Open), setun.WithProfile("none"), setun.WithoutLearning(), setun.WithForce(name))...)
		if err != nil {
			return err
		}
		t.runtimes = append(t.runtimes, &opened{rt, ops})
	}
	if t.Chaos {
		return t.openVictim()
	}
	return nil
}

func (t *test) close() (err error) {
	close(t.flaky.free)
	if v := t.victim.Load(); v != nil {
		t.runtimes = append(t.runtimes, &opened{v, nil})
	}
	for _, rt := range t.runtimes {
		if e := rt.Close(); e != nil && !errors.Is(e, setun.ErrBlocked) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// kernels counts calls.
func (t *test) kernels() map[string]int64 {
	count := map[string]int64{}
	for _, rt := range t.runtimes {
		for _, m := range rt.Metrics() {
			count[m.Kernel] += m.Calls
		}
	}
	return count
}

// work makes calls until the end.
func (t *test) work(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		rt, j := t.runtimes[r.IntN(len(t.runtimes))], t.jobs[r.IntN(len(t.jobs))]
		if rt.ops != nil && !rt.ops[j.op] {
			continue
		}
		if v := t.victim.Load(); v != nil && r.IntN(4) == 0 {
			rt = &opened{v, nil}
		}
		t.call(rt.Runtime, j, r)
	}
}

// call makes one, some of them with a deadline that may pass.
func (t *test) call(rt *setun.Runtime, j *job, r *rand.Rand) {
	within := context.Background()
	if r.IntN(20) == 0 {
		var stop context.CancelFunc
		within, stop = context.WithTimeout(within, time.Duration(r.IntN(3000))*time.Microsecond)
		defer stop()
	}
	t.quiet.RLock()
	right, err := j.run(within, rt)
	t.quiet.RUnlock()
	t.calls.Add(1)
	switch {
	case err == nil && right:
	case err == nil:
		t.wrong.Add(1)
		t.tell("WRONG %s", j.name)
	case errors.Is(err, context.DeadlineExceeded), t.Chaos && expected(err):
		t.expected.Add(1)
	default:
		t.tell("%s: %v", j.name, err)
	}
}
