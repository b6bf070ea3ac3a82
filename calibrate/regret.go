// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
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
	Misses       []miss             `json:"misses"`      // where most was lost
	Arms         map[string]float64 `json:"per_backend"` // the total if each call of an op that the arm has went to it, and the others to the oracle's choice
}

// miss is calls of one shape that went to one arm, which was not the best.
type miss struct {
	Op     string  `json:"op"`
	Shape  string  `json:"shape"`
	Chosen string  `json:"chosen"`
	Best   string  `json:"best"`
	Calls  int     `json:"calls"`
	LostNs float64 `json:"lost_ns"`
}

// regret is what the command prints.
type regret struct {
	loss                 // over all workloads
	DecideNs     float64 `json:"decide_ns"`
	DecideAllocs int64   `json:"decide_allocs"`
	Workloads    []loss  `json:"workloads"`
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
	f, err := openField()
	if err != nil {
		return err
	}
	defer f.close()
	d := newData(1 << 20)
	jobs := regretJobs()
	list := workloads()
	bar := newProgress(env.err, float64(len(list)*rounds))
	defer bar.end()
	r := regret{}
	for i, w := range list {
		l, err := w.run(ctx, d, f, jobs, *calls, rand.New(rand.NewPCG(*seed, uint64(i))), func() { bar.step(1, w.name) })
		if err != nil {
			return err
		}
		r.Workloads = append(r.Workloads, l)
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
	var list []workload
	for _, start := range []struct {
		name    string
		options []runtime.Option
	}{
		{"cold", cold}, {"cold, learning", append(cold, runtime.WithLearning())},
		{"with the profile", nil}, {"with the profile, learning", []runtime.Option{runtime.WithLearning()}},
	} {
		list = append(list, workload{start.name + ": log-uniform", start.options, any}, workload{start.name + ": bursts of 100", start.options, bursts},
			workload{start.name + ": small, then large", start.options, phases})
	}
	return list
}

// rounds into which a workload is cut: the dispatcher and each arm take turns at a part of it, so that they share what else goes on.
const rounds = 10

// player is a runtime that plays the workload: the dispatcher's, or one that is forced to an arm. An arm that lacks an op leaves its calls out.
type player struct {
	arm   string // "" for the dispatcher
	rt    *runtime.Runtime
	do    []func() (int, error)
	times [2][][]float64 // by half of the rounds and shape: nanoseconds of the calls
}

// run plays the same calls with the dispatcher and with each arm, each call in the surroundings that the player's own calls make: threads that are still awake from the call
// before, or asleep. The best arm of a shape is chosen by the medians of every other round and scored by those between, since times chosen and scored by the same rounds would
// flatter it. A call counts for four times its shape's median at most: interrupts are nobody's choice.
func (w workload) run(ctx context.Context, d *data, f *field, jobs []job, calls int, r *rand.Rand, done func()) (loss, error) {
	rt, err := runtime.Open(append([]runtime.Option{runtime.WithForce("")}, w.options...)...)
	if err != nil {
		return loss{}, err
	}
	defer rt.Close()
	players := []*player{newPlayer("", rt, d, f, jobs)}
	for _, name := range armNames(f) {
		if !isFast(f, name) {
			players = append(players, newPlayer(name, f.forced[name], d, f, jobs))
		}
	}
	sequence := make([]int, calls)
	for c := range sequence {
		sequence[c] = w.draw(r, c, calls, len(jobs))
	}
	chosen, before := map[[2]int]int{}, counts(rt) // calls by shape and arm
	for round := range rounds {
		part := sequence[calls*round/rounds : calls*(round+1)/rounds]
		for _, p := range players {
			for _, i := range part {
				if p.do[i] == nil {
					continue
				}
				if err := ctx.Err(); err != nil {
					return loss{}, err
				}
				begin := time.Now()
				_, err := p.do[i]()
				took := float64(time.Since(begin))
				if err != nil {
					return loss{}, err
				}
				p.times[round%2][i] = append(p.times[round%2][i], took)
				after := counts(p.rt) // of every player: what happens between calls is the same for all
				if p.arm == "" {
					for k, a := range f.all.Arms(jobs[i].shape.Op) {
						if c := [2]string{jobs[i].shape.Op.String(), a.String()}; after[c] > before[c] {
							chosen[[2]int{i, k}]++
						}
					}
					before = after
				}
			}
		}
		done()
	}
	l := w.score(f, jobs, players, chosen)
	if x := rt.Learning(); x.Time > 0 {
		l.Exploration = float64(x.Explored) / float64(x.Time)
	}
	return l, nil
}

func newPlayer(arm string, rt *runtime.Runtime, d *data, f *field, jobs []job) *player {
	p := &player{arm: arm, rt: rt, do: make([]func() (int, error), len(jobs))}
	p.times[0], p.times[1] = make([][]float64, len(jobs)), make([][]float64, len(jobs))
	for i, j := range jobs {
		has := arm == "" || slices.ContainsFunc(f.all.Arms(j.shape.Op), func(a dispatch.Arm) bool { return a.String() == arm })
		if has {
			p.do[i] = d.call(rt, j)
		}
	}
	return p
}

// mean of the calls of a shape in some halves, each cut at four times the median; 0 without calls.
func (p *player) mean(i int, halves ...int) float64 {
	var v []float64
	for _, h := range halves {
		v = append(v, p.times[h][i]...)
	}
	if len(v) == 0 {
		return 0
	}
	limit, sum := 4*median(v), 0.0
	for _, t := range v {
		sum += min(t, limit)
	}
	return sum / float64(len(v))
}

// score adds up what the dispatcher took and what the best arm of each shape did.
func (w workload) score(f *field, jobs []job, players []*player, chosen map[[2]int]int) loss {
	l := loss{Workload: w.name, Arms: map[string]float64{}}
	logs := 0.0
	for i, j := range jobs {
		calls := len(players[0].times[0][i]) + len(players[0].times[1][i])
		best, least := -1, math.Inf(1)
		for k, p := range players[1:] {
			if len(p.times[0][i]) > 0 && len(p.times[1][i]) > 0 {
				if m := median(p.times[0][i]); m < least {
					best, least = k+1, m
				}
			}
		}
		if best < 0 { // it came in one half of the rounds alone: there is nothing to score by
			continue
		}
		took, oracle := players[0].mean(i, 0, 1), players[best].mean(i, 1)
		n := float64(calls)
		l.Calls += calls
		l.DispatcherNs += n * took
		l.OracleNs += n * oracle
		logs += n * math.Log(took/oracle)
		if calls >= 10 {
			l.Worst = max(l.Worst, took/oracle)
		}
		for _, p := range players[1:] {
			t := oracle
			if p.do[i] != nil {
				t = p.mean(i, 0, 1)
			}
			l.Arms[p.arm] += n * t
		}
		for k, a := range f.all.Arms(j.shape.Op) {
			if c := chosen[[2]int{i, k}]; c > 0 && a.String() != players[best].arm {
				l.Misses = append(l.Misses, miss{j.shape.Op.String(), j.shape.String(), a.String(), players[best].arm, c, float64(c) * (took - oracle)})
			}
		}
	}
	slices.SortFunc(l.Misses, func(a, b miss) int { return cmp.Or(cmp.Compare(b.LostNs, a.LostNs), cmp.Compare(a.Shape, b.Shape)) })
	l.Misses = l.Misses[:min(5, len(l.Misses))]
	l.Ratio, l.Geometric = l.DispatcherNs/l.OracleNs, math.Exp(logs/float64(l.Calls))
	return l
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
	fmt.Fprintln(env.out, "\nwhere most was lost:")
	for _, l := range r.Workloads {
		for _, m := range l.Misses[:min(2, len(l.Misses))] {
			fmt.Fprintf(env.out, "  %-50s %d of %s %s on %s, best %s: %s\n", l.Workload, m.Calls, m.Op, m.Shape, m.Chosen, m.Best, dispatch.Duration(m.LostNs))
		}
	}
	fmt.Fprintln(env.out, "\nif everything went to one kernel (ops that it does not have: to the best):")
	for _, a := range slices.Sorted(maps.Keys(r.Arms)) {
		fmt.Fprintf(env.out, "  %-24s %10s  %.3f\n", a, dispatch.Duration(r.Arms[a]), r.Arms[a]/r.OracleNs)
	}
	fmt.Fprintf(env.out, "\na decision takes %.0f ns and %d allocations\n", r.DecideNs, r.DecideAllocs)
}
