// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Nobody shares a place, there are as many as the limit says, and whoever waits gets one.
func TestGate(t *testing.T) {
	for _, limit := range []int{1, 3, 63, 64, 65, 130} {
		g := newGate(limit)
		seen := make([]atomic.Int32, limit)
		for want := range limit {
			if got := g.enter(); got != want {
				t.Fatalf("limit %d: place %d, wanted %d", limit, got, want)
			}
		}
		if place := g.take(); place >= 0 {
			t.Fatalf("limit %d: place %d is beyond it", limit, place)
		}
		var all sync.WaitGroup
		for range 2*limit + 4 { // all wait at first
			all.Go(func() {
				for range 50 {
					place := g.enter()
					if n := seen[place].Add(1); n != 1 {
						t.Errorf("limit %d: %d are in place %d", limit, n, place)
					}
					seen[place].Add(-1)
					g.leave(place)
				}
			})
		}
		for place := range limit {
			g.leave(place)
		}
		all.Wait()
		if n := g.waiting.Load(); n != 0 {
			t.Errorf("limit %d: %d wait", limit, n)
		}
		for i := range g.taken {
			if rest := g.taken[i].Load(); rest != newGate(limit).taken[i].Load() {
				t.Errorf("limit %d: places are left taken: %x", limit, rest)
			}
		}
	}
}
