// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/setun-compute/setun/dispatch"
)

const (
	pending    = 64  // timed calls that wait to be learned from
	batch      = 8   // so many are learned from at once: one alone costs three times as much, because nothing is in the caches
	learnShare = 100 // learning takes one part in so many of the time of the calls
	routine    = 4   // and one part in so many of that goes to calls that were as predicted
	headStart  = time.Millisecond
	hoard      = 5 * time.Millisecond  // of time that may be saved up for learning
	dearest    = 50 * time.Microsecond // that learning from a call is believed to take: what takes longer, the process was stopped
	stopped    = 4                     // as in package dispatch: a call counts for so many times its prediction at most
	surprising = 2                     // a call that took so many times longer than predicted, or shorter
	streak     = 3                     // surprises in a row of an arm for which learning may borrow what may be saved
)

// surprise counts the timed calls in a row that took much longer than predicted, or much shorter.
func (s *stats) surprise(took, predicted float64) int64 {
	row := s.surprises.Load()
	switch {
	case took > surprising*predicted:
		row = max(row, 0) + 1
	case predicted > surprising*took:
		row = min(row, 0) - 1
	default:
		row = 0
	}
	s.surprises.Store(row)
	return max(row, -row)
}

// learning is what a runtime learns with. Each call saves up a hundredth of its time. What that pays for is learned: some of the calls that took as long as predicted, each as likely as it is
// long, and surprising ones as long as anything is saved, so that a change is learned from many calls in a row. They go into a queue, and the one that fills a batch learns from it before it
// returns. There is no goroutine, because starting one costs as much as learning does, and takes the core that the next call's second thread wants.
type learning struct {
	queue   chan dispatch.Observation
	saved   atomic.Int64 // nanoseconds that learning may take now
	usual   atomic.Int64 // and from calls that were as predicted
	price   atomic.Int64 // and what a call costs
	dropped atomic.Int64
	learned atomic.Int64
	spent   atomic.Int64 // nanoseconds
	unseen  atomic.Int64 // nanoseconds of the calls that the learner has not heard of
	missed  atomic.Int64 // and how many they are

	save func(*dispatch.Learner) error // nil: nowhere

	mutex   sync.Mutex // held while learning, and to read what was learned
	learner *dispatch.Learner
}

func newLearning(r *dispatch.Router) *learning {
	l := &learning{queue: make(chan dispatch.Observation, pending), learner: dispatch.NewLearner(r)}
	l.saved.Store(int64(2 * headStart))
	l.usual.Store(int64(headStart))
	l.price.Store(1000)
	return l
}

// Learning tells what a runtime learned from its calls since Open.
type Learning struct {
	On       bool          `json:"on"`
	Learned  int64         `json:"learned"`     // timed calls that were learned from
	Dropped  int64         `json:"dropped"`     // and that came too fast
	Time     time.Duration `json:"time_ns"`     // of the calls learned from; one that stands for 64 short ones counts for them all
	Spent    time.Duration `json:"spent_ns"`    // on learning, by the calls that did it
	Explored time.Duration `json:"explored_ns"` // what probes took beyond the best prediction: at most a hundredth of Time and a millisecond, but for one probe's surprise an op
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
	return Learning{On: true, Learned: l.learned.Load(), Dropped: l.dropped.Load(), Time: time.Duration(all), Spent: time.Duration(l.spent.Load()), Explored: time.Duration(cost)}
}

// finish saves what was learned, if it is worth it.
func (l *learning) finish() error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.learner.Spend(l.missed.Swap(0), float64(l.unseen.Swap(0)))
	if _, all := l.learner.Exploration(); l.save == nil || l.learned.Load() < worthCall || time.Duration(all) < worthTime {
		return nil
	}
	return l.save(l.learner)
}

// probe returns the arm that is to be tried with this call, which may have so many parts, or −1.
func (rt *Runtime) probe(p *dispatch.Probe, s *dispatch.Shape, excluded uint64, most float64) int {
	if p.Ended() {
		rt.probes[s.Op].CompareAndSwap(p, nil)
		return -1
	}
	if rt.learning.saved.Load() < -int64(hoard)/2 || s.Variant&dispatch.Beside != 0 || excluded&(1<<p.Arm) != 0 || !p.Take(s, most) {
		return -1
	}
	rt.probes[s.Op].CompareAndSwap(p, nil)
	return p.Arm
}

// affords says whether there is time to learn from a call that took so long, and takes it. row is how many surprises in a row it is the last of.
func (l *learning) affords(took float64, row int64, probe bool) bool {
	price := l.price.Load()
	saved := l.saved.Add(int64(min(took/learnShare, float64(hoard))))
	usual := l.usual.Add(int64(min(took/(learnShare*routine), float64(hoard))))
	switch {
	case probe, row >= streak && saved > price-int64(hoard): // a change costs more than what learning borrows
	case usual < price || saved < price:
		return false
	default:
		l.usual.Add(min(0, int64(headStart)-usual) - price)
	}
	l.saved.Add(min(0, int64(hoard)-saved) - price)
	return true
}

// cost notes what learning from a call took.
func (l *learning) cost(each time.Duration) {
	l.price.Store((3*l.price.Load() + int64(min(each, dearest))) / 4)
}

// miss counts calls that are not learned from.
func (l *learning) miss(calls, took float64) {
	l.missed.Add(int64(calls))
	l.unseen.Add(int64(took))
}

// learn hands a timed call to the learner if there is time for that. It waits for nobody.
func (rt *Runtime) learn(o dispatch.Observation, s *stats, predicted float64) {
	l := rt.learning
	row := int64(0)
	if !o.Probe { // the prediction is of the arm that would have run otherwise
		row = s.surprise(o.Nanos, predicted)
	}
	took, counts := o.Nanos*o.Parts*o.Weight, min(o.Nanos, stopped*predicted)*o.Parts*o.Weight
	if !l.affords(took, row, o.Probe) {
		if row == 0 {
			s.calm.Store(true)
		}
		l.miss(o.Weight, counts)
		return
	}
	o.Calm = s.calm.Swap(false)
	o.Without |= rt.refusing(&o.Shape)
	select {
	case l.queue <- o:
	default:
		l.dropped.Add(1)
		l.miss(o.Weight, counts)
	}
	if len(l.queue) < batch && !o.Probe || !l.mutex.TryLock() {
		return
	}
	drifts := rt.learnBatch()
	l.mutex.Unlock()
	rt.tell(drifts) // a handler may ask the runtime what it has learned
}

// learnBatch learns from calls that wait, and returns the drifts that it found. The caller holds the lock.
func (rt *Runtime) learnBatch() []dispatch.Drift {
	l, begin, n := rt.learning, time.Now(), int64(0)
	l.learner.Spend(l.missed.Swap(0), float64(l.unseen.Swap(0)))
	for range batch {
		select {
		case o := <-l.queue:
			if p := l.learner.Observe(o); p != nil {
				rt.probes[p.Op].Store(p) // the one before waits no longer
			}
			n++
		default:
		}
	}
	spent := int64(time.Since(begin))
	l.learned.Add(n)
	l.spent.Add(spent)
	if n > 0 {
		l.cost(time.Duration(spent / n))
	}
	rt.router.Store(l.learner.Router())
	return l.learner.TakeDrifts()
}
