// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"sync/atomic"
	"time"
)

// pulse tells whether somebody else is busy on the cores: on a shared machine the other thread of a core may be another's, and takes half of what the core can do for seconds at a time; or what
// looks like two cores is two threads of one for a while. A clock does not show that, and a chain of dependent operations neither; a loop that keeps several units busy does.
type pulse struct {
	alone, together lane
	others          []lane
}

// lane is what one core beats with.
type lane struct {
	x    [8192]float32
	sum  float32
	best time.Duration // of all beats
	_    [64]byte
}

const (
	slack  = 1.25 // how much longer than the best beat one may take on a quiet core
	beats  = 6    // of several cores at once
	gather = 500 * time.Microsecond
)

// quiet takes some ten microseconds.
func (p *pulse) quiet() bool {
	least := p.alone.beat()
	for range 2 {
		least = min(least, p.alone.beat())
	}
	return p.alone.calm(least) && p.jointly()
}

// jointly has all cores beat at once. They begin together, or one of them is taken.
func (p *pulse) jointly() bool {
	if p.others == nil {
		p.others = make([]lane, cores()-1)
	}
	n := len(p.others) + 1 // Go itself may change how many cores it uses
	var here, done atomic.Int32
	took := make([]time.Duration, n)
	begin := time.Now()
	beat := func(l *lane, i int) {
		defer done.Add(1)
		here.Add(1)
		for int(here.Load()) < n {
			if time.Since(begin) > gather {
				return
			}
		}
		var all [beats]time.Duration
		for b := range all {
			all[b] = l.beat()
		}
		middle := all[1 : beats-1] // while the others beat too
		slices.Sort(middle)
		took[i] = middle[len(middle)/2]
	}
	for i := range p.others {
		go beat(&p.others[i], i+1)
	}
	beat(&p.together, 0)
	for int(done.Load()) < n {
		if time.Since(begin) > 10*gather {
			time.Sleep(gather) // somebody has the other core
		}
	}
	if slices.Contains(took, 0) {
		return false
	}
	return p.together.calm(slices.Max(took))
}

// calm says whether a beat was hardly longer than the best one.
func (l *lane) calm(beat time.Duration) bool {
	if l.best == 0 || beat < l.best {
		l.best = beat
	}
	return float64(beat) <= slack*float64(l.best)
}

func (l *lane) beat() time.Duration {
	var a, b, c, d float32
	begin := time.Now()
	for i := 0; i+4 <= len(l.x); i += 4 {
		a += l.x[i]
		b += l.x[i+1]
		c += l.x[i+2]
		d += l.x[i+3]
	}
	took := time.Since(begin)
	l.sum += a + b + c + d // or the compiler leaves the loop out
	return took
}
