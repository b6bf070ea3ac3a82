// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"sync"
	"sync/atomic"
)

// gate bounds the calls that are in kernels of other backends at a time. Each holds a thread of the operating system, which Go makes when it runs out of them and keeps for ever: 200 calls at once left 204 threads.
type gate struct {
	inside  atomic.Int64
	limit   int64
	waiting atomic.Int64
	mutex   sync.Mutex
	free    *sync.Cond
}

func newGate(limit int) *gate {
	g := &gate{limit: int64(limit)}
	g.free = sync.NewCond(&g.mutex)
	return g
}

// enter waits for a place. With one free it is an addition.
func (g *gate) enter() {
	if g.inside.Add(1) <= g.limit {
		return
	}
	g.inside.Add(-1)
	g.mutex.Lock()
	g.waiting.Add(1)
	for g.inside.Add(1) > g.limit { // counted as waiting already, so that whoever leaves after this wakes one
		g.inside.Add(-1)
		g.free.Wait()
	}
	g.waiting.Add(-1)
	g.mutex.Unlock()
}

func (g *gate) leave() {
	g.inside.Add(-1)
	if g.waiting.Load() > 0 {
		g.mutex.Lock()
		g.free.Signal()
		g.mutex.Unlock()
	}
}
