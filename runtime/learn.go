// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/setun-compute/setun/dispatch"
)

const (
	pending    = 64 // timed calls that wait to be learned from; more than that in between are not
	learnAfter = 4  // timed calls that are waiting, or a long one
	longNanos  = 1e5
	pause      = 50  // times what learning took are left until the next time: it takes a fiftieth of a core at most
	haste      = 400 // calls at first between which only firstPause times that are left: a new runtime has most to learn
	firstPause = 4
)

// learning is what a runtime learns with. Calls put what they took into a queue and go on; now and then one of them starts a goroutine that empties it.
type learning struct {
	queue   chan dispatch.Observation
	busy    atomic.Bool
	next    atomic.Int64 // when the queue may be emptied again, in Unix nanoseconds
	dropped atomic.Int64
	learned atomic.Int64

	mutex   sync.Mutex // held while learning, and to read what was learned
	learner *dispatch.Learner
}

// Learning tells what a runtime learned from its calls since Open.
type Learning struct {
	On       bool          `json:"on"`
	Learned  int64         `json:"learned"`     // timed calls that were learned from
	Dropped  int64         `json:"dropped"`     // and that came too fast
	Time     time.Duration `json:"time_ns"`     // of the calls learned from; one that stands for 64 short ones counts for them all
	Explored time.Duration `json:"explored_ns"` // what probes took beyond the best prediction: at most a hundredth of Time and a millisecond, but for one probe's surprise
}

// Learning returns what was learned so far. It waits for a batch that is being learned from.
func (rt *Runtime) Learning() Learning {
	l := rt.learning
	if l == nil {
		return Learning{}
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	cost, all := l.learner.Exploration()
	return Learning{On: true, Learned: l.learned.Load(), Dropped: l.dropped.Load(), Time: time.Duration(all), Explored: time.Duration(cost)}
}

// probe returns the arm that is to be tried with this call, or −1.
func (rt *Runtime) probe(s *dispatch.Shape, excluded uint64) int {
	p := rt.probes[s.Op].Load()
	if p == nil || excluded&(1<<p.Arm) != 0 || !p.Fits(s) || !rt.probes[s.Op].CompareAndSwap(p, nil) {
		return -1
	}
	return p.Arm
}

// learn hands a timed call to the learner, without waiting.
func (rt *Runtime) learn(o dispatch.Observation) {
	l := rt.learning
	if l == nil {
		return
	}
	select {
	case l.queue <- o:
	default:
		l.dropped.Add(1)
	}
	if len(l.queue) < learnAfter && o.Nanos < longNanos && !o.Probe {
		return
	}
	if time.Now().UnixNano() >= l.next.Load() && l.busy.CompareAndSwap(false, true) {
		go rt.empty()
	}
}

// empty learns from what is in the queue, and publishes the router and the probes that result.
func (rt *Runtime) empty() {
	l := rt.learning
	l.mutex.Lock()
	defer l.mutex.Unlock()
	defer l.busy.Store(false)
	begin := time.Now()
	for more := true; more; {
		select {
		case o := <-l.queue:
			if p := l.learner.Observe(o); p != nil {
				rt.probes[p.Op].CompareAndSwap(nil, p)
			}
			more = l.learned.Add(1)%pending != 0
		default:
			more = false
		}
	}
	rt.router.Store(l.learner.Router())
	rest := time.Since(begin) * pause
	if l.learned.Load() < haste {
		rest = time.Since(begin) * firstPause
	}
	l.next.Store(time.Now().Add(rest).UnixNano())
}
