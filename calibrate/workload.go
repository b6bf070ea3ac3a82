// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/setun-compute/setun/runtime"
)

// workload is a sequence of calls.
type workload struct {
	name    string
	cold    bool // the dispatcher starts without a profile
	callers int  // goroutines that call at once
	slow    func(share float64) bool
	draw    func(r *rand.Rand, call, calls, shapes int) int // which shape
}

func workloads() (list []workload) {
	any := func(r *rand.Rand, _, _, shapes int) int { return r.IntN(shapes) }
	burst := 0
	bursts := func(r *rand.Rand, call, _, shapes int) int {
		if call%100 == 0 {
			burst = r.IntN(shapes)
		}
		return burst
	}
	phases := func(r *rand.Rand, call, calls, shapes int) int { // small calls of every op, then large ones
		for {
			i := r.IntN(shapes)
			if small := i%23 < 12; small == (call < calls/2) {
				return i
			}
		}
	}
	for _, cold := range []bool{true, false} {
		start := "with a profile: "
		if cold {
			start = "cold: "
		}
		list = append(list, workload{name: start + "log-uniform", cold: cold, draw: any}, workload{name: start + "bursts of 100", cold: cold, draw: bursts},
			workload{name: start + "small, then large", cold: cold, draw: phases}, workload{name: start + "eight callers at once", cold: cold, draw: any, callers: 8},
			workload{name: start + "best arm 5× slower half-way", cold: cold, draw: any, slow: func(share float64) bool { return share >= 0.5 }},
			workload{name: start + "slower, then well again", cold: cold, draw: any, slow: func(share float64) bool { return share >= 0.2 && share < 0.6 }})
	}
	return list
}

// player plays the workload's calls, each its own way.
type player struct {
	do    [][]func() (int, error) // by caller and shape: each has destinations of its own
	times [][]float64             // by shape: nanoseconds of the calls
	wall  float64                 // nanoseconds of all blocks with several callers
}

func newPlayer(d *data, jobs []job, callers int, rt func(i int) *runtime.Runtime) *player {
	p := &player{do: make([][]func() (int, error), max(1, callers)), times: make([][]float64, len(jobs))}
	longest := 0
	for _, j := range jobs {
		longest = max(longest, int(j.shape.N))
	}
	for c := range p.do {
		if c > 0 {
			d = d.another(longest)
		}
		for i, j := range jobs {
			p.do[c] = append(p.do[c], d.call(rt(i), j))
		}
	}
	return p
}

// play makes the calls of a block, one after the other or with several callers. before is told each call of a single caller.
func (p *player) play(ctx context.Context, part []int, callers int, before func(i int)) error {
	if callers < 2 {
		for _, i := range part {
			if err := ctx.Err(); err != nil {
				return err
			}
			before(i)
			begin := time.Now()
			_, err := p.do[0][i]()
			took := float64(time.Since(begin))
			if err != nil {
				return err
			}
			p.times[i] = append(p.times[i], took)
		}
		return nil
	}
	var next atomic.Int64
	var all sync.WaitGroup
	failed := make([]error, callers)
	begin := time.Now()
	for c := range callers {
		all.Go(func() {
			for failed[c] == nil && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(part) {
					return
				}
				_, failed[c] = p.do[c][part[i]]()
			}
		})
	}
	all.Wait()
	p.wall += float64(time.Since(begin))
	return errors.Join(append(failed, ctx.Err())...)
}

// total is the time of all calls. A call counts for four times its shape's median at most: interrupts are nobody's choice.
func (p *player) total() float64 {
	sum := p.wall
	for _, v := range p.times {
		if len(v) > 0 {
			limit := 4 * median(v)
			for _, t := range v {
				sum += min(t, limit)
			}
		}
	}
	return sum
}
