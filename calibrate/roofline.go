// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// roofline holds the best rates of one core that any kernel showed in this run. There is no portable way to ask a machine for
// its limits; what its fastest kernels reach is a lower bound on them.
type roofline struct {
	reads []rate  // of vectors, by rising size
	flops float64 // a nanosecond, of kmeans on a shape that suits it; 0: not measured
}

type rate struct {
	n     int64
	bytes float64 // a nanosecond
}

// measureRoofline lets dot and norm2 read vectors of the bench's sizes, and the native kernels label points.
func measureRoofline(ctx context.Context, f *field, d *data, e effort, quick bool) (roofline, error) {
	var r roofline
	for _, j := range benchJobs(backends.OpNorm2, quick) {
		best := 0.0
		for _, op := range []backends.Op{backends.OpNorm2, backends.OpDot} {
			s := dispatch.Vector(op, int(j.shape.N))
			rts, predicted := f.runtimes(s)
			raced, err := e.race(ctx, d, job{shape: s}, rts, predicted)
			if err != nil {
				return r, err
			}
			for _, t := range raced.all {
				if t != nil {
					best = max(best, s.Bytes()/slices.Min(t))
				}
			}
		}
		r.reads = append(r.reads, rate{j.shape.N, best})
	}
	// A short vector shows the price of the call, not of the memory, which is at least as fast there as for longer ones.
	for i := len(r.reads) - 2; i >= 0; i-- {
		r.reads[i].bytes = max(r.reads[i].bytes, r.reads[i+1].bytes)
	}
	j := job{shape: dispatch.KMeans(20_000, 128, 256)}
	rts, _ := f.runtimes(j.shape)
	for i, a := range f.all.Arms(j.shape.Op) {
		rt := rts[i]
		if i == 0 || a.Fast || a.Memory != dispatch.Host { // pure Go is not the fastest, and would take a second
			continue
		}
		t, err := sample(d.call(rt, j), 2)
		if err != nil {
			return r, err
		}
		r.flops = max(r.flops, j.shape.Flops()/t)
	}
	return r, nil
}

// nanos is the least time that a shape should take on one core: its arithmetic for kmeans and matmul; for the others what they must read and
// write, twice the input where the scale or the norm is needed first, at the best rate for vectors of that length.
func (r *roofline) nanos(s dispatch.Shape) float64 {
	if s.Op == backends.OpKMeans || s.Op == backends.OpMatMul {
		if r.flops == 0 {
			return 0
		}
		return s.Flops() / r.flops
	}
	bytes := 4 * float64(s.N)
	switch s.Op {
	case backends.OpActivations:
		bytes = 9 * float64(s.N) // read for the greatest magnitude and for the codes
	case backends.OpTernary, backends.OpRecode, backends.OpRMSNorm, backends.OpSoftmax, backends.OpActivate, backends.OpUpdate:
		bytes = s.Bytes()
	case backends.OpQuantize:
		bytes = 8*float64(s.N) + float64(s.Out)
	case backends.OpStep:
		bytes = 20*float64(s.N) + float64(s.Out)
	case backends.OpConstrain, backends.OpClusters:
		bytes = 12 * float64(s.N) // read for the norm, read and write to scale
	case backends.OpDot:
		bytes = 8 * float64(s.N)
	}
	for _, v := range r.reads {
		if v.n >= s.N {
			return bytes / v.bytes
		}
	}
	return bytes / r.reads[len(r.reads)-1].bytes
}
