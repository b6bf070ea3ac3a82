// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// Links measures what copies between the program's memory and that of each device take, some tenths of a second each: for the profile that `calibrate run` makes. It returns none where there is
// no device, and the context's error when that ends first.
func (rt *Runtime) Links(ctx context.Context) ([]dispatch.Link, error) {
	rt.traffic.enter() // Close waits
	defer rt.traffic.leave()
	if rt.closed.Load() {
		return nil, ErrClosed
	}
	var links []dispatch.Link
	for m, d := range rt.memories {
		if d == nil || d.lost.Load() != nil {
			continue
		}
		l, err := d.link(ctx)
		if err != nil {
			return nil, fmt.Errorf("measuring the link to %s: %w", rt.backends[d.home].Name(), err)
		}
		l.Memory = dispatch.Memory(m)
		links = append(links, l)
	}
	return links, nil
}

// The copies that are measured: one that is all launch, and one that is all bytes.
const (
	shortCopy = 4 << 10
	longCopy  = 32 << 20
)

func (d *device) link(ctx context.Context) (l dispatch.Link, err error) {
	host := make([]byte, longCopy)
	at, err := d.memory.Alloc(longCopy)
	if err != nil {
		return l, err
	}
	defer func() {
		if e := d.memory.Free(at); err == nil {
			err = e
		}
	}()
	time := func(n, repeats int, copy func(at backends.Address, host []byte) error) float64 {
		var times []float64
		for i := range repeats + 1 { // the first one finds its memory
			begin := time.Now()
			if err == nil {
				err = ctx.Err()
			}
			if err == nil {
				err = copy(at, host[:n])
			}
			if i > 0 {
				times = append(times, float64(time.Since(begin)))
			}
		}
		slices.Sort(times)
		return times[len(times)/2]
	}
	up := d.memory.Upload
	down := func(at backends.Address, host []byte) error { return d.memory.Download(host, at) }
	l.Launch = min(time(shortCopy, 31, up), time(shortCopy, 31, down))
	l.Up = max(0, time(longCopy, 7, up)-l.Launch) / longCopy
	l.Down = max(0, time(longCopy, 7, down)-l.Launch) / longCopy
	return l, err
}
