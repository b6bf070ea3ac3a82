// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

// repeats is how many calls of n values a turn takes the mean of.
func repeats(n int) int { return max(1, 4_000_000/n) }

// once makes a case of one call on n values. Rates are input bytes.
func once(op, shape string, n int, quick bool, contenders func(e *env) ([]*contender, func(), error)) *bench {
	return &bench{op: op, shape: shape, values: n, quick: quick, contenders: contenders, figures: []figure{{figureCall, 4 * float64(n), "GB/s"}}}
}

// turns times repeated calls.
func turns(n int, call func() error) func() (times, error) {
	return func() (times, error) {
		if err := call(); err != nil { // not timed: others ran since, and took the caches
			return nil, err
		}
		begin := time.Now()
		for range repeats(n) {
			if err := call(); err != nil {
				return nil, err
			}
		}
		return times{figureCall: float64(time.Since(begin)) / float64(repeats(n))}, nil
	}
}

// quantize is ternary absmean to int8; group 0 is one scale for the whole tensor.
func quantize(n, group int, quick bool) *bench {
	shape, traffic := fmt.Sprintf("%d tensor", n), "codes"
	if group > 0 {
		shape, traffic = fmt.Sprintf("%d group %d", n, group), "once"
	}
	return once("quantize", shape, n, quick, func(e *env) ([]*contender, func(), error) {
		x := e.x[:n]
		q := &quant.Tensor{Codes: pages[int8](n)}
		cs, done, err := e.ours(backends.OpQuantize, func(rt *setun.Runtime) (func() (times, error), error) {
			return turns(n, func() error { _, err := rt.Quantize(q, x, quant.Options{Group: group}); return err }), nil
		})
		if err != nil {
			return nil, nil, err
		}
		if e.numpy != nil {
			for _, kind := range []string{"lean", "plain"} {
				if kind == "lean" || n <= 10_000_000 {
					cs = append(cs, e.asks("NumPy "+kind, e.numpy, "quantize %s %d %d %d", kind, n, group, max(1, repeats(n)/4)))
				}
			}
		}
		return append(cs, e.loop(traffic, n)...), done, nil
	})
}

// constrain is inside the ball in place, or outside of it to another slice.
func constrain(n int, outside, quick bool) *bench {
	shape, kind, traffic := fmt.Sprintf("%d inside", n), "inside", "read"
	if outside {
		shape, kind, traffic = fmt.Sprintf("%d outside", n), "outside", "scale"
	}
	return once("constrain", shape, n, quick, func(e *env) ([]*contender, func(), error) {
		x := e.x[:n]
		dst, radius := x, 1e9
		if outside {
			dst, radius = pages[float32](n), 1.0
		}
		cs, done, err := e.ours(backends.OpConstrain, func(rt *setun.Runtime) (func() (times, error), error) {
			return turns(n, func() error { _, _, err := rt.Constrain(dst, x, radius); return err }), nil
		})
		if err != nil {
			return nil, nil, err
		}
		if e.numpy != nil {
			cs = append(cs, e.asks("NumPy lean", e.numpy, "constrain %s %d %d", kind, n, repeats(n)))
		}
		return append(cs, e.loop(traffic, n)...), done, nil
	})
}

// machine measures what the machine can do: reading memory and multiplying in registers, with one thread and with all.
func machine(kind string, work float64, unit string) *bench {
	b := &bench{op: "machine", shape: kind, quick: true, figures: []figure{{figureCall, work, unit}}}
	b.contenders = func(e *env) ([]*contender, func(), error) {
		n := work
		if unit == "GB/s" {
			n /= 4
		}
		var cs []*contender
		for _, t := range []int{1, e.threads} {
			if e.loops != nil && (t == 1 || e.threads > 1) {
				cs = append(cs, e.asks(fmt.Sprintf("%d threads", t), e.loops, "%s %.0f %d 1", kind, n, t))
				cs[len(cs)-1].ceiling = true
			}
		}
		return cs, func() {}, nil
	}
	return b
}
