// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Nobody shares a place, there are as many as the limit says, and whoever waits gets one.
func TestGate(t *testing.T) {
	for _, limit := range []int{1, 3, 63, 64, 65, 130} {
		g := newGate(limit)
		seen := make([]atomic.Int32, limit)
		for want := range limit {
			if got, err := g.enter(t.Context()); got != want || err != nil {
				t.Fatalf("limit %d: place %d, wanted %d: %v", limit, got, want, err)
			}
		}
		if place := g.take(); place >= 0 {
			t.Fatalf("limit %d: place %d is beyond it", limit, place)
		}
		var all sync.WaitGroup
		for range 2*limit + 4 { // all wait at first
			all.Go(func() {
				for range 50 {
					place, err := g.enter(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
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
		for len(g.handed) > 0 { // to nobody: free all the same
			g.leave(<-g.handed)
		}
		for i := range g.taken {
			if rest := g.taken[i].Load(); rest != newGate(limit).taken[i].Load() {
				t.Errorf("limit %d: places are left taken: %x", limit, rest)
			}
		}
	}
}

// Whoever waits until his context ends has its error, and takes no place with him, not even one that was handed on in that moment.
func TestGateLeftWaiting(t *testing.T) {
	g := newGate(1)
	inTime, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	place, err := g.enter(inTime)
	if err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := g.enter(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() {
			got, err := g.enter(ctx)
			if err == nil {
				g.leave(got)
			}
			result <- err
		}()
		for g.waiting.Load() == 0 {
			time.Sleep(time.Microsecond)
		}
		go cancel()
		g.leave(place)
		if err := <-result; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if place, err = g.enter(inTime); err != nil {
			t.Fatal(err)
		}
	}
}
