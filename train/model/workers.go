// SPDX-License-Identifier: Apache-2.0

package model

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// kernel is a loop over rows. rows does those from lo to hi−1; lo is a multiple of the grain it is run with, hi lo + grain or the end. What it computes for a row depends on that row alone, and what it adds up over rows it
// keeps for each chunk of grain rows, so that no result depends on who does which.
type kernel interface{ rows(lo, hi int) }

// parallelFrom is the number of elements, of half a nanosecond or so each, from which a loop is shared: waking another goroutine takes tens of microseconds, more where a native library's thread still waits on that core for
// the next op. (1 << 14 was no faster with one, and slower with the other, on two cores of Zen 5.)
const parallelFrom = 1 << 18

// workers are goroutines that help with loops. They end when work is closed, which the end of their Model's life does.
type workers struct {
	work chan struct{}
	done sync.WaitGroup
	most int // goroutines besides the caller's
	from int // parallelFrom, but in tests

	loop kernel // the current one
	n    int
	step int
	next atomic.Int64
}

func newWorkers() *workers {
	w := &workers{most: runtime.GOMAXPROCS(0) - 1, from: parallelFrom}
	w.work = make(chan struct{}, max(w.most, 1))
	for range w.most {
		go w.help()
	}
	return w
}

func (w *workers) help() {
	for range w.work {
		w.share()
		w.done.Done()
	}
}

// share does chunks until none is left.
func (w *workers) share() {
	for {
		lo := (int(w.next.Add(1)) - 1) * w.step
		if lo >= w.n {
			return
		}
		w.loop.rows(lo, min(lo+w.step, w.n))
	}
}

// run does n rows of about cost elements each, in chunks of grain rows.
func (w *workers) run(k kernel, n, grain, cost int) {
	helpers := min(w.most, (n-1)/grain)
	if helpers > 0 && n*cost < w.from {
		helpers = 0
	}
	if helpers == 0 {
		for lo := 0; lo < n; lo += grain {
			k.rows(lo, min(lo+grain, n))
		}
		return
	}
	w.loop, w.n, w.step = k, n, grain
	w.next.Store(0)
	w.done.Add(helpers)
	for range helpers {
		w.work <- struct{}{}
	}
	w.share()
	w.done.Wait()
	w.loop = nil // or a helper's memory would keep the model alive
}
