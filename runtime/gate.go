// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
)

// gate bounds the calls that are in kernels of other backends at a time, and gives each a place. Each holds a thread of the operating system, which Go makes when it runs out of them and keeps for ever: 200 calls at once left 204 threads.
type gate struct {
	taken   []atomic.Uint64 // a bit for each place
	limit   int64
	waiting atomic.Int64
	mutex   sync.Mutex
	free    *sync.Cond
}

func newGate(limit int) *gate {
	g := &gate{limit: int64(limit), taken: make([]atomic.Uint64, (limit+63)/64)}
	if rest := limit % 64; rest > 0 { // what is beyond the limit is taken for good
		g.taken[len(g.taken)-1].Store(math.MaxUint64 << rest)
	}
	g.free = sync.NewCond(&g.mutex)
	return g
}

// enter waits for a place, which leave gives back. With one free it is one exchange.
func (g *gate) enter() (place int) {
	if place = g.take(); place < 0 {
		place = g.wait()
	}
	return place
}

func (g *gate) wait() (place int) {
	g.mutex.Lock()
	g.waiting.Add(1)
	for place = g.take(); place < 0; place = g.take() { // counted as waiting already, so that whoever leaves after this wakes one
		g.free.Wait()
	}
	g.waiting.Add(-1)
	g.mutex.Unlock()
	return place
}

// take returns a free place, −1 when there is none.
func (g *gate) take() int {
	for i := range g.taken {
		word := &g.taken[i]
		for old := word.Load(); old != math.MaxUint64; old = word.Load() {
			bit := bits.TrailingZeros64(^old)
			if word.CompareAndSwap(old, old|1<<bit) {
				return 64*i + bit
			}
		}
	}
	return -1
}

func (g *gate) leave(place int) {
	g.taken[place/64].Add(-(uint64(1) << (place % 64))) // the bit is set: nothing is borrowed
	if g.waiting.Load() > 0 {
		g.wake()
	}
}

func (g *gate) wake() {
	g.mutex.Lock()
	g.free.Signal()
	g.mutex.Unlock()
}
