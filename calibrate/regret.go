// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	gort "runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// loss is what a workload cost with the dispatcher's choices, beside the best ones. All but the live times are priced: a call costs what its arm took in repeats in turns with the others
// (the best arm is chosen by one half of them, and all are priced by the other half), and what was spent on exploring and learning is added. So what one call leaves in caches and threads
// for the next does not count. The live times are of the calls as they were made, in turns with the best single arm.
type loss struct {
	Workload     string             `json:"workload"`
	Calls        int                `json:"calls"`
	DispatcherNs float64            `json:"dispatcher_ns"`
	OracleNs     float64            `json:"oracle_ns"`
	Ratio        float64            `json:"ratio"`
	Geometric    float64            `json:"geometric_mean,omitempty"` // of the ratios of the calls: large ones do not hide small ones; 0 where nobody noted which arms several callers had
	BestArm      string             `json:"best_arm"`                 // of those that everything could go to
	BestArmNs    float64            `json:"best_arm_ns"`
	OverBestArm  float64            `json:"over_best_arm"`
	Exploration  float64            `json:"exploration_share"`
	Learned      int64              `json:"learned"`     // timed calls
	ExploredNs   float64            `json:"explored_ns"` // what probes took beyond the best prediction
	LearningNs   float64            `json:"learning_ns"` // what learning took
	LiveNs       float64            `json:"live_ns"`
	LiveBestNs   float64            `json:"live_best_arm_ns"`
	Live         float64            `json:"live_over_best_arm"`
	Recovered    []int              `json:"recovered_after,omitempty"` // calls after each change of an arm until the next 200 took at most 1.05 of the oracle's time; −1: never
	Misses       []miss             `json:"misses"`                    // where most was lost
	Arms         map[string]float64 `json:"per_backend"`               // if everything went to it; ops that it lacks to the best
}

// regret is what the command prints.
type regret struct {
	loss                 // over all workloads
	DecideNs     float64 `json:"decide_ns"`
	DecideAllocs int64   `json:"decide_allocs"`
	HeldOut      heldOut `json:"held_out"`
	Workloads    []loss  `json:"workloads"`
}

func cores() int { return gort.GOMAXPROCS(0) }

func regretCommand(ctx context.Context, env *environment, fs *flag.FlagSet, args []string) error {
	calls := fs.Int("calls", 100_000, "of each workload")
	seed := fs.Uint64("seed", 1, "of the workloads")
	only := fs.String("only", "", "play the workloads whose names have this in them; \"none\" for the held-out shapes alone")
	path := fs.String("trace", "", "replay the calls in this file (calibrate record) by policy instead; no kernel runs")
	profile := fs.String("profile", "", "with --trace: the profile of the machine that the trace is from, instead of this one's")
	policies := fs.String("policy", allPolicies, "with --trace: policies, or backends or kernels to force, separated by commas")
	if err := parse(fs, args, 0); err != nil {
		return err
	}
	if *path != "" {
		return replayTrace(ctx, env, *path, *profile, *policies, *seed)
	}
	if *calls < 1 {
		return exit{exitUsage, fmt.Sprintf("--calls %d is not positive", *calls)}
	}
	dir, err := os.MkdirTemp("", "setun-regret-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := newData(1 << 22)
	jobs, unseen := vectorJobs(1<<20), heldOutJobs()
	list := slices.DeleteFunc(workloads(), func(w workload) bool { return !strings.Contains(w.name, *only) })
	bar := newProgress(env.err, float64(len(unseen)*blocks+len(list)*(blocks+1)*len(jobs)))
	defer bar.end()
	r := regret{}
	for _, slow := range []bool{false, true} {
		w, err := openWorld(slow, dir)
		if err != nil {
			return err
		}
		if w == nil {
			fmt.Fprintln(env.err, "no native library: the workloads in which a kernel becomes slower are left out")
			continue
		}
		if !slow {
			t := newTable(unseen)
			for range blocks {
				if err := t.add(ctx, d, w.field, checkEffort, nil, func(j job) { bar.step(1, j.shape.Op.String()+" "+j.shape.String()) }); err != nil {
					return err
				}
			}
			for begin, turn := time.Now(), 0; turn < 2*blocks || turn < 8*blocks && time.Since(begin) < checkEffort.patience; turn++ {
				if err := t.add(ctx, d, w.field, checkEffort, t.doubted(w.field), func(job) {}); err != nil {
					return err
				}
			}
			r.HeldOut = t.judge(w.field)
			shape := dispatch.Vector(backends.OpNorm2, 4096)
			b := testing.Benchmark(func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					w.field.all.Decide(&shape)
				}
			})
			r.DecideNs, r.DecideAllocs = float64(b.T.Nanoseconds())/float64(b.N), b.AllocsPerOp()
		}
		mine := slices.DeleteFunc(slices.Clone(list), func(l workload) bool { return (l.slow != nil) != slow })
		for i, l := range mine {
			x, err := l.run(ctx, d, w, jobs, *calls, rand.New(rand.NewPCG(*seed, uint64(i))), func(job) { bar.step(1, l.name) })
			if err != nil {
				return err
			}
			r.Workloads = append(r.Workloads, x)
		}
		w.close()
	}
	bar.end()
	r.sum()
	if *env.json {
		return env.printJSON(r)
	}
	r.print(env)
	return nil
}

// perCall is the geometric mean in figures.
func (l *loss) perCall() string {
	if l.Geometric == 0 {
		return ""
	}
	return fmt.Sprintf("%.3f", l.Geometric)
}

// recovery is the list in words.
func (l *loss) recovery() string {
	if len(l.Recovered) == 0 {
		return ""
	}
	return fmt.Sprintf("; back after %v calls", l.Recovered)
}

// sum puts the workloads together.
func (r *regret) sum() {
	r.Workload, r.Arms = "all", map[string]float64{}
	logs, noted := 0.0, 0
	for _, l := range r.Workloads {
		r.Calls += l.Calls
		r.DispatcherNs += l.DispatcherNs
		r.OracleNs += l.OracleNs
		r.BestArmNs += l.BestArmNs
		r.LiveNs += l.LiveNs
		r.LiveBestNs += l.LiveBestNs
		r.Exploration = max(r.Exploration, l.Exploration)
		r.Learned += l.Learned
		if l.Geometric > 0 {
			logs += float64(l.Calls) * math.Log(l.Geometric)
			noted += l.Calls
		}
		for a, t := range l.Arms {
			r.Arms[a] += t
		}
	}
	if r.Calls > 0 {
		r.Ratio, r.OverBestArm = r.DispatcherNs/r.OracleNs, r.DispatcherNs/r.BestArmNs
		r.Live = r.LiveNs / r.LiveBestNs
	}
	if noted > 0 {
		r.Geometric = math.Exp(logs / float64(noted))
	}
}

func (r *regret) print(env *environment) {
	h := r.HeldOut
	fmt.Fprintf(env.out, "%d shapes that calibrate does not measure: the choices take %.1f %% longer than the best arm in the mean, %.0f %% at worst (%s)\n", h.Shapes, 100*h.MeanRegret, 100*h.WorstRegret, h.Worst)
	fmt.Fprintf(env.out, "%d predictions: off by %.1f %% in the median, %.0f %% at the 95th percentile; the cores were quiet for %.0f %% of the turns\n", len(h.Predictions), 100*h.MedianError, 100*h.P95Error, 100*h.Quiet)
	for _, o := range h.Ops {
		fmt.Fprintf(env.out, "  %-20s %4d  %5.1f %%  %5.0f %%\n", o.Op, o.Predictions, 100*o.MedianError, 100*o.P95Error)
	}
	if len(r.Workloads) > 0 {
		fmt.Fprintf(env.out, "\n%-42s %6s %9s %9s %6s %8s %9s %9s %6s\n", "workload", "calls", "total", "oracle", "ratio", "per call", "best arm", "explored", "live")
		for _, l := range append(r.Workloads, r.loss) {
			fmt.Fprintf(env.out, "%-42s %6d %9s %9s %6.3f %8s %9.3f %8.2f%% %6.3f  %s%s\n", l.Workload, l.Calls, dispatch.Duration(l.DispatcherNs), dispatch.Duration(l.OracleNs), l.Ratio, l.perCall(), l.OverBestArm, 100*l.Exploration, l.Live, l.BestArm, l.recovery())
		}
		fmt.Fprintln(env.out, "\nwhere most was lost:")
		for _, l := range r.Workloads {
			for _, m := range l.Misses[:min(2, len(l.Misses))] {
				fmt.Fprintf(env.out, "  %-44s %s\n", l.Workload, m)
			}
		}
		fmt.Fprintln(env.out, "\nif everything went to one kernel (ops that it does not have: to the best):")
		for _, a := range slices.Sorted(maps.Keys(r.Arms)) {
			fmt.Fprintf(env.out, "  %-24s %10s  %.3f\n", a, dispatch.Duration(r.Arms[a]), r.Arms[a]/r.OracleNs)
		}
	}
	fmt.Fprintf(env.out, "\na decision takes %.0f ns and %d allocations\n", r.DecideNs, r.DecideAllocs)
}
