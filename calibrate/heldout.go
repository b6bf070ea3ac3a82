// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
)

// heldOut is how the predictions do on shapes that calibrate does not measure.
type heldOut struct {
	Shapes      int         `json:"shapes"`
	MeanRegret  float64     `json:"mean_regret"` // of the chosen arm's time over the best one's, minus 1
	WorstRegret float64     `json:"worst_regret"`
	Worst       miss        `json:"worst"`
	MedianError float64     `json:"median_error"` // of |predicted/measured − 1|, over shapes and arms
	P95Error    float64     `json:"p95_error"`
	Quiet       float64     `json:"quiet_share"` // of the turns: the cores were not another's too
	Ops         []opError   `json:"ops"`
	Predictions []predicted `json:"predictions"`
}

// opError is the error of an op's predictions.
type opError struct {
	Op          string  `json:"op"`
	Predictions int     `json:"predictions"`
	MedianError float64 `json:"median_error"`
	P95Error    float64 `json:"p95_error"`
}

// predicted is one prediction beside what was measured, counted as a calibration counts its samples.
type predicted struct {
	Op        string  `json:"op"`
	Shape     string  `json:"shape"`
	Variant   int     `json:"variant"`
	Arm       string  `json:"arm"`
	Predicted float64 `json:"predicted_ns"`
	Measured  float64 `json:"measured_ns"`
}

func (p *predicted) off() float64 { return math.Abs(p.Predicted/p.Measured - 1) }

// miss is calls of one shape that went to one arm, which was not the best.
type miss struct {
	Op     string  `json:"op"`
	Shape  string  `json:"shape"`
	Chosen string  `json:"chosen"`
	Best   string  `json:"best"`
	Calls  int     `json:"calls"`
	LostNs float64 `json:"lost_ns"`
}

// vectorJobs are calls of five ops between 2^4.3 values and a size: every 0.7 octaves, so that calibrate has measured none of them.
func vectorJobs(most int) (jobs []job) {
	for _, op := range []backends.Op{backends.OpQuantize, backends.OpConstrain, backends.OpDot, backends.OpNorm2, backends.OpStep} {
		for e := 4.3; math.Exp2(e) < float64(most); e += 0.7 {
			n := int(math.Exp2(e))
			o := quant.Options{}.WithDefaults(n)
			switch op {
			case backends.OpQuantize:
				jobs = append(jobs, job{shape: dispatch.Quantize(n, o), opts: o})
			case backends.OpStep:
				jobs = append(jobs, job{shape: dispatch.Step(n, o), opts: o})
			default:
				jobs = append(jobs, job{shape: dispatch.Vector(op, n)})
			}
		}
	}
	return jobs
}

// heldOutJobs are shapes of all ops that lie between those that calibrate measures.
func heldOutJobs() []job {
	jobs := vectorJobs(1 << 22)
	for e := 5.3; e < 22; e += 2.1 {
		n := int(math.Exp2(e))
		inside := dispatch.Vector(backends.OpConstrain, n)
		inside.Variant = dispatch.Inside
		jobs = append(jobs, job{shape: inside}, job{shape: dispatch.Clusters(n, max(1, n/700))})
		for _, o := range []quant.Options{{Rule: quant.LeastSquares}, {Group: 128}, {Format: quant.Bits2}, {Rule: quant.Stochastic}} {
			if o.Group > 0 && n < 256 || o.Rule == quant.Stochastic && n > 1<<18 {
				continue
			}
			o = o.WithDefaults(n)
			jobs = append(jobs, job{shape: dispatch.Quantize(n, o), opts: o})
		}
	}
	for _, n := range []int{300, 3000, 30_000} {
		for _, d := range []int{8, 64, 128} {
			for _, k := range []int{8, 64, 128} {
				jobs = append(jobs, kmeans(n, d, k))
			}
		}
	}
	for _, n := range []int{3, 12, 48, 200, 700} {
		jobs = append(jobs, matmul(n, n, n, 1))
	}
	for _, n := range []int{48, 200, 700, 3000} {
		jobs = append(jobs, ternary(n, n, 1, quant.Bits2), ternary(n, n, 1, quant.Base3), job{shape: dispatch.Activations(n*100, 100)})
	}
	for _, n := range []int{20, 90, 300, 700, 1500} {
		jobs = append(jobs, matmul(1, n, n, 1))
	}
	return append(jobs, matmul(3, 500, 300, 1), matmul(16, 500, 300, 1))
}

// table is what each arm took for each job, in turns.
type table struct {
	jobs          []job
	times         []samples   // by job, of each arm
	choose, score [][]float64 // medians of every other sample, and of those between; of a call that is too slow to be repeated what it took, or was predicted to take
}

func newTable(jobs []job) *table {
	return &table{jobs: jobs, times: make([]samples, len(jobs))}
}

// add races the arms of each job so many times more, or of those that are wanted; arms without a chance only once.
func (t *table) add(ctx context.Context, d *data, f *field, e effort, wanted func(i int) bool, step func(job)) error {
	for i, j := range t.jobs {
		if wanted != nil && !wanted(i) {
			continue
		}
		rts, guess := f.runtimes(j.shape)
		for k, list := range t.times[i].all {
			if hopeless(list, t.times[i].all) {
				rts[k] = nil
			}
		}
		s, err := e.race(ctx, d, j, rts, guess)
		if err != nil {
			return err
		}
		t.times[i].add(s)
		step(j)
	}
	t.judged(f)
	return nil
}

// judged fills in the medians.
func (t *table) judged(f *field) {
	t.choose, t.score = nil, nil
	for i := range t.times {
		_, guess := f.runtimes(t.jobs[i].shape)
		choose, score := make([]float64, len(guess)), make([]float64, len(guess))
		for k := range guess {
			if t.times[i].all == nil {
				choose[k], score[k] = guess[k], guess[k]
				continue
			}
			list := t.times[i].counted(k)
			switch len(list) {
			case 0:
				choose[k], score[k] = guess[k], guess[k]
			case 1:
				choose[k], score[k] = list[0], list[0]
			default:
				choose[k], score[k] = halves(list)
			}
		}
		t.choose, t.score = append(t.choose, choose), append(t.score, score)
	}
}

// halves are the medians of every other sample, and of those between: what is chosen by the one is scored by the other, since the least of noisy times would flatter itself.
func halves(times []float64) (choose, score float64) {
	var half [2][]float64
	for i, t := range times {
		half[i%2] = append(half[i%2], t)
	}
	return median(half[0]), median(half[1])
}

// best is the arm of a job with the lowest median.
func (t *table) best(arms []dispatch.Arm, i int) int {
	best, least := 0, math.Inf(1)
	for k, m := range t.choose[i] {
		if m < least && (!arms[k].Fast || t.jobs[i].shape.Fast) {
			best, least = k, m
		}
	}
	return best
}

// regret tells which arm of a job is the best, which one the dispatcher chooses, and by which part of the best one's time that takes longer.
func (t *table) regret(f *field, i int) (best, chosen int, lost float64) {
	best, chosen = t.best(f.all.Arms(t.jobs[i].shape.Op), i), f.all.Decide(&t.jobs[i].shape).Arm
	if t.score[i][chosen] == never { // it refuses such calls, which the next best by prediction answers then
		least := never
		for k, c := range f.all.Explain(t.jobs[i].shape).Arms {
			if t.score[i][k] < never && c.PredictedNs < least {
				chosen, least = k, c.PredictedNs
			}
		}
	}
	return best, chosen, max(0, t.score[i][chosen]/t.score[i][best]-1)
}

// doubted tells of which jobs the choice seems to lose so much that they are measured again: among hundreds of shapes some look bad by chance, on a machine that is shared. What was measured
// before counts on.
func (t *table) doubted(f *field) func(i int) bool {
	list := make([]bool, len(t.jobs))
	for i := range t.jobs {
		_, _, lost := t.regret(f, i)
		list[i] = lost > 0.1
	}
	return func(i int) bool { return list[i] }
}

// judge compares a runtime's decisions and predictions with the table.
func (t *table) judge(f *field) heldOut {
	h := heldOut{}
	turns := 0.0
	errors := map[string][]float64{}
	var all []float64
	for i, j := range t.jobs {
		arms := f.all.Arms(j.shape.Op)
		x := f.all.Explain(j.shape)
		for k := range arms {
			times := t.times[i].counted(k)
			if len(times) < 2 {
				continue
			}
			p := predicted{j.shape.Op.String(), j.shape.String(), int(j.shape.Variant), arms[k].String(), x.Arms[k].PredictedNs, dispatch.Typical(times)}
			h.Predictions = append(h.Predictions, p)
			errors[p.Op], all = append(errors[p.Op], p.off()), append(all, p.off())
		}
		best, chosen, regret := t.regret(f, i)
		least, took := t.score[i][best], t.score[i][chosen]
		h.Shapes++
		h.Quiet += t.times[i].calm
		turns += t.times[i].turns
		h.MeanRegret += regret
		if regret > h.WorstRegret {
			h.WorstRegret, h.Worst = regret, miss{j.shape.Op.String(), j.shape.String(), arms[chosen].String(), arms[best].String(), 1, took - least}
		}
	}
	h.MeanRegret /= float64(max(1, h.Shapes))
	h.Quiet /= max(1, turns)
	h.MedianError, h.P95Error = spread(all)
	for _, op := range backends.Ops() {
		if v := errors[op.String()]; len(v) > 0 {
			m, p := spread(v)
			h.Ops = append(h.Ops, opError{op.String(), len(v), m, p})
		}
	}
	return h
}

// spread is the median and the 95th percentile.
func spread(v []float64) (middle, p95 float64) {
	if len(v) == 0 {
		return 0, 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2], s[len(s)*95/100]
}
