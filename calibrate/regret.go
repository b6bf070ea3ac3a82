// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
)

// loss is what a workload cost with the dispatcher's choices, beside the best ones.
type loss struct {
	Workload     string             `json:"workload"`
	Calls        int                `json:"calls"`
	DispatcherNs float64            `json:"dispatcher_ns"`
	OracleNs     float64            `json:"oracle_ns"`
	Ratio        float64            `json:"ratio"`
	Geometric    float64            `json:"geometric_mean"` // of the ratios of the calls: large calls do not hide small ones
	Worst        float64            `json:"worst_shape"`    // the greatest mean ratio of a shape with ten calls or more
	Exploration  float64            `json:"exploration_share"`
	Arms         map[string]float64 `json:"per_backend"` // the total if each call of an op that the arm has went to it, and the others to the oracle's choice
}

// regret is what the command prints.
type regret struct {
	loss                 // over all workloads
	DecideNs     float64 `json:"decide_ns"`
	DecideAllocs int64   `json:"decide_allocs"`
	Workloads    []loss  `json:"workloads"`
}

// cost is the median time of each arm for one job, from two halves of interleaved repeats: one to choose the best arm by, the other to score choices with. The least of
// noisy times, chosen and scored by the same repeats, would flatter the oracle.
type cost struct {
	job    job
	choose []float64
	score  []float64
	best   int
}

func regretCommand(ctx context.Context, env *environment, fs *flag.FlagSet, args []string) error {
	calls := fs.Int("calls", 5000, "of each workload")
	seed := fs.Uint64("seed", 1, "of the workloads")
	if err := parse(fs, args, 0); err != nil {
		return err
	}
	if *calls < 1 {
		return exit{exitUsage, fmt.Sprintf("--calls %d is not positive", *calls)}
	}
	f, err := openField(runtime.WithoutLearning())
	if err != nil {
		return err
	}
	defer f.close()
	d := newData(1 << 20)
	jobs := regretJobs()
	bar := newProgress(env.err, float64(len(jobs))*1.3)
	defer bar.end()
	var table []cost
	for _, j := range jobs {
		c, err := measureCost(ctx, d, f, j)
		if err != nil {
			return err
		}
		table = append(table, c)
		bar.step(1, "the oracle: "+j.shape.Op.String()+" "+j.shape.String())
	}
	r := regret{}
	for i, w := range workloads() {
		l, err := w.run(ctx, d, f, table, *calls, rand.New(rand.NewPCG(*seed, uint64(i))))
		if err != nil {
			return err
		}
		r.Workloads = append(r.Workloads, l)
		bar.step(0.3*float64(len(jobs))/float64(len(workloads())), w.name)
	}
	r.sum()
	shape := dispatch.Vector(backends.OpNorm2, 4096)
	b := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f.all.Decide(&shape)
		}
	})
	r.DecideNs, r.DecideAllocs = float64(b.T.Nanoseconds())/float64(b.N), b.AllocsPerOp()
	bar.end()
	if *env.json {
		return env.printJSON(r)
	}
	r.print(env)
	return nil
}

// regretJobs are the shapes of the workloads: sizes that calibrate does not measure, every 0.7 octaves.
func regretJobs() (jobs []job) {
	for _, op := range []backends.Op{backends.OpQuantize, backends.OpConstrain, backends.OpDot, backends.OpNorm2, backends.OpStep} {
		for e := 4.3; e < 20; e += 0.7 {
			n := int(math.Exp2(e))
			o := quant.Options{}.WithDefaults(n)
			switch op {
			case backends.OpQuantize:
				jobs = append(jobs, job{dispatch.Quantize(n, o), o})
			case backends.OpStep:
				jobs = append(jobs, job{dispatch.Step(n, o), o})
			default:
				jobs = append(jobs, job{shape: dispatch.Vector(op, n)})
			}
		}
	}
	return jobs
}

func measureCost(ctx context.Context, d *data, f *field, j job) (cost, error) {
	rts, predicted := f.runtimes(j.shape)
	lists, err := effort{samples: 14, least: 20 * time.Microsecond, longest: time.Second}.race(ctx, d, j, rts, predicted)
	c := cost{job: j}
	if err != nil {
		return c, err
	}
	for i, list := range lists {
		var halves [2][]float64
		for k, t := range list {
			halves[k%2] = append(halves[k%2], t)
		}
		if len(halves[1]) == 0 {
			return c, fmt.Errorf("%v %v on arm %d was not measured", j.shape.Op, j.shape, i)
		}
		c.choose, c.score = append(c.choose, median(halves[0])), append(c.score, median(halves[1]))
		if c.choose[i] < c.choose[c.best] {
			c.best = i
		}
	}
	return c, nil
}

// workload draws calls.
type workload struct {
	name    string
	options []runtime.Option
	draw    func(r *rand.Rand, call, calls, shapes int) int // which shape
}

func workloads() []workload {
	any := func(r *rand.Rand, _, _, shapes int) int { return r.IntN(shapes) }
	cold := []runtime.Option{runtime.WithProfile("")}
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
	return []workload{
		{"cold, sizes log-uniform", cold, any}, {"cold, bursts of 100", cold, bursts}, {"cold, small calls and then large ones", cold, phases},
		{"with the profile, sizes log-uniform", nil, any}, {"with the profile, bursts of 100", nil, bursts}, {"with the profile, small calls and then large ones", nil, phases},
	}
}

// run sends the calls of a workload to a fresh runtime and scores its choices by the table.
func (w workload) run(ctx context.Context, d *data, f *field, table []cost, calls int, r *rand.Rand) (loss, error) {
	rt, err := runtime.Open(append([]runtime.Option{runtime.WithForce("")}, w.options...)...)
	if err != nil {
		return loss{}, err
	}
	defer rt.Close()
	do := make([]func() (int, error), len(table))
	for i, c := range table {
		do[i] = d.call(rt, c.job)
	}
	l := loss{Workload: w.name, Calls: calls, Arms: map[string]float64{}}
	ratios, times := make([]float64, len(table)), make([]int, len(table))
	before := counts(rt)
	logs := 0.0
	for c := range calls {
		if err := ctx.Err(); err != nil {
			return l, err
		}
		i := w.draw(r, c, calls, len(table))
		if _, err := do[i](); err != nil {
			return l, err
		}
		after := counts(rt)
		job := table[i]
		arms := f.all.Arms(job.job.shape.Op)
		chosen := slices.IndexFunc(arms, func(a dispatch.Arm) bool {
			k := [2]string{job.job.shape.Op.String(), a.String()}
			return after[k] > before[k]
		})
		if chosen < 0 {
			return l, fmt.Errorf("%v: no arm counted the call", job.job.shape.Op)
		}
		before = after
		took, best := job.score[chosen], job.score[job.best]
		l.DispatcherNs += took
		l.OracleNs += best
		logs += math.Log(took / best)
		ratios[i] += took / best
		times[i]++
		for k, a := range arms {
			l.Arms[a.String()] += job.score[k] - best
		}
	}
	for a := range l.Arms {
		l.Arms[a] += l.OracleNs
	}
	for i, n := range times {
		if n >= 10 {
			l.Worst = max(l.Worst, ratios[i]/float64(n))
		}
	}
	l.Ratio, l.Geometric = l.DispatcherNs/l.OracleNs, math.Exp(logs/float64(calls))
	if x := rt.Learning(); x.Time > 0 {
		l.Exploration = float64(x.Explored) / float64(x.Time)
	}
	return l, nil
}

// counts are the calls of each arm so far.
func counts(rt *runtime.Runtime) map[[2]string]int64 {
	m := map[[2]string]int64{}
	for _, x := range rt.Metrics() {
		m[[2]string{x.Op, x.Kernel}] = x.Calls
	}
	return m
}

// sum puts the workloads together.
func (r *regret) sum() {
	r.Workload, r.Arms = "all", map[string]float64{}
	logs := 0.0
	for _, l := range r.Workloads {
		r.Calls += l.Calls
		r.DispatcherNs += l.DispatcherNs
		r.OracleNs += l.OracleNs
		r.Worst = max(r.Worst, l.Worst)
		r.Exploration = max(r.Exploration, l.Exploration)
		logs += float64(l.Calls) * math.Log(l.Geometric)
		for a, t := range l.Arms {
			r.Arms[a] += t
		}
	}
	r.Ratio, r.Geometric = r.DispatcherNs/r.OracleNs, math.Exp(logs/float64(r.Calls))
}

func (r *regret) print(env *environment) {
	fmt.Fprintf(env.out, "%-50s %8s %10s %10s %8s %9s %9s\n", "workload", "calls", "total", "oracle", "ratio", "per call", "explored")
	for _, l := range append(r.Workloads, r.loss) {
		fmt.Fprintf(env.out, "%-50s %8d %10s %10s %8.4f %9.4f %8.2f%%\n", l.Workload, l.Calls, dispatch.Duration(l.DispatcherNs), dispatch.Duration(l.OracleNs), l.Ratio, l.Geometric, 100*l.Exploration)
	}
	fmt.Fprintln(env.out, "\nif everything went to one kernel (ops that it does not have: to the best):")
	for _, a := range slices.Sorted(maps.Keys(r.Arms)) {
		fmt.Fprintf(env.out, "  %-24s %10s  %.3f\n", a, dispatch.Duration(r.Arms[a]), r.Arms[a]/r.OracleNs)
	}
	fmt.Fprintf(env.out, "\na decision takes %.0f ns and %d allocations\n", r.DecideNs, r.DecideAllocs)
}
