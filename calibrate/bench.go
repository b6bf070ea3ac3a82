// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"text/tabwriter"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
)

// result is one line of `calibrate bench`.
type result struct {
	Op            string  `json:"op"`
	Shape         string  `json:"shape"`
	Backend       string  `json:"backend"`
	Kernel        string  `json:"kernel"`
	Nanos         float64 `json:"ns"` // median; of an iteration for kmeans
	GBs           float64 `json:"gb_s"`
	GFlops        float64 `json:"gflop_s"`
	RooflineShare float64 `json:"roofline_share"` // see roofline
	SpeedupVsCPU  float64 `json:"speedup_vs_cpu"`
	AllocBytes    int64   `json:"alloc_bytes"`
}

// benchJobs are sizes in the first cache, in the last and in memory.
func benchJobs(op backends.Op, quick bool) []job {
	var jobs []job
	sizes := []int{1000, 100_000, 1_000_000, 10_000_000}
	if !quick {
		sizes = append(sizes, 100_000_000)
	}
	for _, n := range sizes {
		switch op {
		case backends.OpQuantize:
			o := quant.Options{}.WithDefaults(n)
			jobs = append(jobs, job{shape: dispatch.Quantize(n, o), opts: o})
		case backends.OpStep:
			o := quant.Options{}.WithDefaults(n)
			jobs = append(jobs, job{shape: dispatch.Step(n, o), opts: o})
		case backends.OpClusters:
			jobs = append(jobs, job{shape: dispatch.Clusters(n, n/1000)})
		case backends.OpActivations:
			jobs = append(jobs, job{shape: dispatch.Activations(n, max(1, n/4096))})
		case backends.OpRecode:
			n = n / 4096 * 4096
			for _, f := range []quant.Format{quant.Bits2, quant.Base3, quant.Four5, quant.Planes} {
				if n > 0 && n < 1e8 {
					jobs = append(jobs, recode(n, f, quant.Int8))
				}
			}
		case backends.OpRMSNorm, backends.OpSoftmax, backends.OpActivate, backends.OpUpdate:
			if n < 1e8 {
				jobs = append(jobs, rowJobs(op, n, true)...)
			}
		case backends.OpKMeans, backends.OpMatMul, backends.OpTernary:
		default:
			jobs = append(jobs, job{shape: dispatch.Vector(op, n)})
		}
	}
	if op == backends.OpKMeans {
		for _, s := range [][3]int{{1000, 16, 8}, {10_000, 64, 64}, {100_000, 64, 64}, {100_000, 128, 256}} {
			if !quick || s[0]*s[1]*s[2] < 1<<29 {
				jobs = append(jobs, kmeans(s[0], s[1], s[2]))
			}
		}
	}
	if op == backends.OpTernary {
		for _, side := range []int{256, 1024, 4096, 8192, 16_384} {
			for _, f := range []quant.Format{quant.Bits2, quant.Base3, quant.Four5, quant.Planes} {
				if !quick || side < 8192 {
					jobs = append(jobs, ternary(side, side, 1, f))
				}
			}
		}
	}
	if op == backends.OpMatMul {
		for _, s := range [][4]int{{64, 64, 64, 1}, {1, 4096, 1024, 1}, {256, 256, 256, 1}, {64, 64, 64, 64}, {1024, 1024, 1024, 1}, {2048, 2048, 2048, 1}} {
			if !quick || s[0]*s[1]*s[2] < 1<<29 {
				jobs = append(jobs, matmul(s[0], s[1], s[2], s[3]))
			}
		}
	}
	return jobs
}

func benchCommand(ctx context.Context, env *environment, fs *flag.FlagSet, args []string) error {
	only := fs.String("op", "", "measure this op only")
	quick := fs.Bool("quick", false, "leave the largest shapes out")
	if err := parse(fs, args, 0); err != nil {
		return err
	}
	ops := backends.Ops()
	if *only != "" {
		ops = nil
		for _, op := range backends.Ops() {
			if op.String() == *only {
				ops = append(ops, op)
			}
		}
		if ops == nil {
			return exit{exitUsage, fmt.Sprintf("there is no op %q; write it like --op quantize", *only)}
		}
	}
	f, err := openField()
	if err != nil {
		return err
	}
	defer f.close()
	results, err := benchAll(ctx, env, f, ops, *quick)
	if err != nil {
		return err
	}
	if *env.json {
		for _, r := range results {
			if err := env.printJSON(r); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(env.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "op\tshape\tkernel\ttime\tGB/s\tGFLOP/s\troofline\tagainst pure Go\tallocated\t")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%s\t%s/%s\t%s\t%.1f\t%.1f\t%.0f %%\t%.1f×\t%d B\t\n", r.Op, r.Shape, r.Backend, r.Kernel, dispatch.Duration(r.Nanos), r.GBs, r.GFlops, 100*r.RooflineShare, r.SpeedupVsCPU, r.AllocBytes)
	}
	return w.Flush()
}

func benchAll(ctx context.Context, env *environment, f *field, ops []backends.Op, quick bool) ([]result, error) {
	e := effort{samples: 7, least: fullEffort.least, longest: 2 * 1e9}
	most := 10_000_000
	if !quick {
		most = 100_000_000
	}
	d := newData(most)
	total := 0
	for _, op := range ops {
		total += len(benchJobs(op, quick))
	}
	bar := newProgress(env.err, float64(total))
	defer bar.end()
	roof, err := measureRoofline(ctx, f, d, e, quick)
	if err != nil {
		return nil, err
	}
	var results []result
	for _, op := range ops {
		for _, j := range benchJobs(op, quick) {
			rts, predicted := f.runtimes(j.shape)
			raced, err := e.race(ctx, d, j, rts, predicted)
			if err != nil {
				return nil, err
			}
			first := len(results)
			for i, a := range f.all.Arms(op) {
				if raced.all[i] == nil || raced.all[i][0] == never {
					continue
				}
				t := median(raced.counted(i))
				results = append(results, result{Op: op.String(), Shape: j.shape.String(), Backend: a.Backend, Kernel: a.Kernel, Nanos: t,
					GBs: j.shape.Bytes() / t, GFlops: j.shape.Flops() / t, AllocBytes: allocated(d.call(rts[i], j))})
			}
			least := roof.nanos(j.shape)
			for i := first; i < len(results); i++ {
				r := &results[i]
				if r.SpeedupVsCPU = 0; results[first].Backend == "cpu" {
					r.SpeedupVsCPU = results[first].Nanos / r.Nanos
				}
				r.RooflineShare = least / r.Nanos
			}
			bar.step(1, op.String()+" "+j.shape.String())
		}
	}
	return results, nil
}
