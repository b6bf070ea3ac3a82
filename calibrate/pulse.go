// SPDX-License-Identifier: Apache-2.0

package main

import "time"

// pulse tells whether somebody else is busy on the core: on a shared machine the other thread of a core may be another's, and takes half of what the core can do for seconds at a time. A clock
// does not show that, and a chain of dependent operations neither; a loop that keeps several units busy does.
type pulse struct {
	x    [2048]float32
	sum  float32
	best time.Duration // of all beats
}

// slack is how much longer than the best beat one may take on a quiet core.
const slack = 1.25

// quiet takes some microseconds.
func (p *pulse) quiet() bool {
	least := p.beat()
	for range 2 {
		least = min(least, p.beat())
	}
	if p.best == 0 || least < p.best {
		p.best = least
	}
	return float64(least) <= slack*float64(p.best)
}

func (p *pulse) beat() time.Duration {
	var a, b, c, d float32
	begin := time.Now()
	for i := 0; i+4 <= len(p.x); i += 4 {
		a += p.x[i]
		b += p.x[i+1]
		c += p.x[i+2]
		d += p.x[i+3]
	}
	took := time.Since(begin)
	p.sum += a + b + c + d // or the compiler leaves the loop out
	return took
}
