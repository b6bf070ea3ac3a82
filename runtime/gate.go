// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"math"
	"math/bits"
	"sync/atomic"
)

// gate bounds the calls that are in kernels of other backends at a time, and gives each a place. Each holds a thread of the operating system, which Go makes when it runs out of them and keeps for ever: 200 calls at once left 204 threads.
// With one place it is a lock whose wait can end.
type gate struct {
	taken   []atomic.Uint64 // a bit for each place
	limit   int64
	waiting atomic.Int64
	handed  chan int // places that are taken still, for those who wait
}

func newGate(limit int) *gate {
	g := &gate{limit: int64(limit), taken: make([]atomic.Uint64, (limit+63)/64), handed: make(chan int, limit)}
	if rest := limit % 64; rest > 0 { // what is beyond the limit is taken for good
		g.taken[len(g.taken)-1].Store(math.MaxUint64 << rest)
	}
	return g
}

// enter waits for a place, which leave gives back, or for the end of the context, whose error it returns. With a place free it is one exchange.
func (g *gate) enter(ctx context.Context) (place int, err error) {
	if place = g.take(); place < 0 {
		return g.wait(ctx)
	}
	return place, nil
}

func (g *gate) wait(ctx context.Context) (place int, err error) {
	g.waiting.Add(1)
	defer g.waiting.Add(-1)
	if place = g.take(); place >= 0 { // counted as waiting already, so that whoever leaves after this hands on a place
		return place, nil
	}
	select {
	case place = <-g.handed:
		return place, nil
	case <-ctx.Done():
		return -1, ctx.Err()
	}
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
		g.handOn()
	}
}

// handOn gives a free place to one who waits, whoever has been there the longest. When he does not wait any longer the next one who would have to has it at once.
func (g *gate) handOn() {
	if place := g.take(); place >= 0 {
		g.handed <- place // there is room for all
	}
}
