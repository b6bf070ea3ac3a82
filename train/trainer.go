// SPDX-License-Identifier: Apache-2.0

package train

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/auxnn"
	"github.com/setun-compute/setun/train/model"
	"github.com/setun-compute/setun/train/optim"
	"github.com/setun-compute/setun/train/parallel"
)

// Options are what a run needs beside its Config: nothing here changes its bits.
type Options struct {
	Folder   string       // of metrics.jsonl, checkpoint.stn, model.stn, summary.json and report.html; "": nothing is written
	Resume   bool         // go on from the folder's checkpoint when there is one
	Stop     int          // after so many steps of the run, as if it had been interrupted; 0: at its end
	Progress func(Record) // after each step
	Warn     func(error)  // of what the run survives: a checkpoint or a line of metrics that could not be written. Nil: nobody hears of it
	Sample   int          // tokens of the sample at the end; 0: none

	// Mapped keeps parameters, gradients, the memory of passes and the optimiser's state in buffers (model.Model.Map, optim.Optimizer.Map): on a device, where the runtime's calls run on one. Checkpoints are brought home, so that a run may go on
	// without it.
	Mapped bool

	// Peers are the processes that train together, each of which calls Run with the same arguments; nil: this one alone. Rank 0 writes the folder, reports progress and makes the sample; all read a checkpoint.
	Peers parallel.Peers
}

// trainer is a run.
type trainer struct {
	Config
	opts   Options
	rt     *runtime.Runtime
	text   *corpus
	model  *model.Model
	optim  *optim.Optimizer
	plan   optim.Schedule
	aux    *auxnn.Controller // nil: the plain schedule
	state  *optim.State
	step   int // done
	best   float64
	recent []float64 // losses of the last steps
	begin  time.Time
	done   int           // steps of this process
	inOps  time.Duration // of kernels, when the latest step had been timed

	forum   *parallel.Forum
	steady  context.Context  // does not end
	reduce  parallel.Reducer // nil: there is nothing to add
	own     *optim.State     // what reduce keeps
	saves   bool             // the run has a folder, be it this rank's to write or not
	spoiled bool             // no checkpoint can be made any more

	tokens, targets []int32
	losses, ofAll   []float64 // of an evaluation's batches
	lambdas         []float32 // of the linear layers
	layers          *ordering // nil: not measured
}

// remembered is how many steps the loss of a summary is averaged over.
const remembered = 100

// Run trains. It returns what it came to and the record of each step of this process, also with an error: ErrConfig, ErrCheckpoint for a checkpoint of another configuration (the fields that differ are named),
// ErrDiverged for a loss or a gradient that is not finite (a checkpoint of the step before is saved), the errors of data and file system, and ctx's after a checkpoint was saved.
func Run(ctx context.Context, rt *runtime.Runtime, c Config, o Options) (Summary, []Record, error) {
	t, err := newTrainer(ctx, rt, c, o)
	if err := together(o.forum(), t, err); err != nil {
		return Summary{Config: c}, nil, err
	}
	log, err := t.openMetrics()
	if err := t.forum.Agree(err); err != nil {
		return Summary{Config: c}, nil, err
	}
	records, err := t.run(ctx, metrics{log})
	t.warn(log.Close())
	s := t.summary(records)
	if err == nil {
		s.Model, err = t.export()
	}
	if err == nil && t.opts.Sample > 0 {
		s.Sample, err = t.sample(ctx, t.opts.Sample)
	}
	if t.opts.Folder != "" {
		err = errors.Join(err, t.writeSummary(s, records))
	}
	return s, records, err
}

func newTrainer(ctx context.Context, rt *runtime.Runtime, c Config, o Options) (*trainer, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	forum := o.forum()
	if c.Ranks != 0 && c.Ranks != forum.Size() {
		return nil, fmt.Errorf("%w: ranks = %d, and %d run", ErrConfig, c.Ranks, forum.Size())
	}
	c.Ranks = forum.Size()
	text, err := openCorpus(ctx, rt, &c, forum.Rank())
	if err != nil {
		return nil, err
	}
	t := &trainer{Config: c, opts: o, forum: forum, steady: context.WithoutCancel(ctx), rt: rt, text: text, best: math.Inf(1), begin: time.Now()}
	n := c.Batch * c.Context
	t.tokens, t.targets = make([]int32, n), make([]int32, n)
	shape := c.shape(text.vocabulary)
	weights := quant.Options{Rule: shape.Rule, Group: shape.Group}
	if t.model, err = model.New(rt, shape, c.Seed); err != nil {
		return nil, err
	}
	t.lambdas = make([]float32, linearsOfLayer*c.Layers)
	t.plan = optim.Schedule{Kind: optim.Cosine, Steps: c.Steps, Warmup: min(c.Warmup, c.Steps/2), Peak: c.LearningRate, Final: c.MinRate, Decay: c.WeightDecay}
	if c.Schedule == "two-stage" {
		t.plan.Kind = optim.TwoStage
	}
	how := optim.Options{Beta1: c.Beta1, Beta2: c.Beta2, Clip: c.Clip, Seed: c.Seed, Weights: weights, Unguided: !c.Aux}
	if c.Optimizer == "sgd" {
		how.Method, how.Momentum = optim.SGD, c.Beta1
	}
	if c.Clusters != 0 {
		how.Groups, how.K, how.Every, how.Factors = optim.ByKMeans, max(c.Clusters, 0), max(1, c.Steps/10), optim.Relative
	}
	var tensors []optim.Tensor
	for _, p := range t.model.Params() {
		tensors = append(tensors, optim.Tensor(*p))
	}
	if t.optim, err = optim.New(rt, tensors, how); err != nil {
		return nil, err
	}
	if err := t.join(tensors); err != nil {
		return nil, err
	}
	if c.Aux {
		t.aux = auxnn.New(auxnn.Options{Seed: c.Seed, FixedRadius: c.Radius == 0})
	}
	if o.Resume {
		err = t.resume()
	}
	t.inOps = opTime(rt)
	return t, err
}

func (t *trainer) run(ctx context.Context, log metrics) (records []Record, err error) {
	if t.opts.Mapped {
		if err := cmp.Or(t.model.Map(), t.optim.Map()); err != nil {
			return nil, cmp.Or(err, t.model.Close(), t.optim.Close())
		}
		defer func() { // what the run left is at home then
			if e := cmp.Or(t.model.Close(), t.optim.Close()); err == nil {
				err = e
			}
		}()
	}
	end := t.Steps
	if t.opts.Stop > 0 {
		end = min(end, t.opts.Stop)
	}
	for t.step < end {
		if err := ctx.Err(); err != nil && !t.several() { // one of several tells the others in its step
			return records, errors.Join(err, t.save())
		}
		r, err := t.one(ctx)
		if err != nil {
			if t.leaves(ctx, err) {
				err = errors.Join(err, t.save())
			}
			return records, err
		}
		records = append(records, r)
		if err := log.add(&r); err != nil {
			t.warn(fmt.Errorf("metrics of step %d: %w", r.Step, err))
		}
		if t.opts.Progress != nil {
			t.opts.Progress(r)
		}
		if t.CheckpointEvery > 0 && t.step%t.CheckpointEvery == 0 && t.step < end {
			err := t.save()
			if stopped(err) {
				return records, err
			}
			t.warn(err)
		}
	}
	return records, t.save()
}

// one takes a step. Parameters are as they were when it fails before the optimiser's step.
func (t *trainer) one(ctx context.Context) (Record, error) {
	begin, sent := time.Now(), t.forum.Sent()
	mix, loss, last, err := t.gradients(ctx)
	if err := t.forum.Mean(err, &loss); err != nil {
		return Record{}, err
	}
	ctx = t.steady // from here on the step is taken whole, and by all ranks
	if err := t.add(); err != nil {
		return Record{}, err
	}
	rate, decay := t.plan.At(t.step)
	control := optim.Control{Rate: rate, Decay: decay}
	if t.Radius > 0 {
		control.Radius = t.Radius * rate / t.LearningRate
	}
	if t.aux != nil {
		f := t.aux.Factors()
		control.Rate *= f.Rate
		control.Radius *= f.Radius
	}
	report, err := t.optim.Step(ctx, control)
	between := err == nil || errors.Is(err, optim.ErrUnfinished) || t.Compress != "" // whether what is in memory is no longer the step before
	if errors.Is(err, runtime.ErrNonFinite) {
		err = fmt.Errorf("%w: step %d: %w", ErrDiverged, t.step+1, err)
	}
	if err == nil {
		if err = t.model.Refresh(); err != nil {
			err = fmt.Errorf("%w: step %d: %w", ErrDiverged, t.step+1, err)
		}
	}
	if err := t.forum.Same("the norm of the parameters", math.Float64bits(report.ValueNorm), err); err != nil {
		any, failed := t.forum.Any(between)
		t.spoiled = t.spoiled || any || failed != nil
		return Record{}, err
	}
	t.step++
	t.done++
	flipped, total := t.model.Flips()
	n := int64(t.Batch) * int64(t.Context) * int64(t.text.all)
	r := Record{Step: t.step, Loss: loss, Tokens: int64(t.step) * n, Rate: control.Rate, Mix: float64(mix), Norm: report.GradNorm, Moved: report.Norm, Radius: control.Radius}
	if total > 0 {
		r.Flips = float64(flipped) / float64(total)
	}
	if t.Radius > 0 {
		r.Inside = 1 - float64(report.Projected)/float64(max(1, report.Groups))
	}
	if err := t.advise(ctx, &r, &report, last); err != nil {
		return Record{}, err
	}
	took, inOps := time.Since(begin), opTime(t.rt)
	r.TokensPerSecond, r.Runtime = float64(n)/took.Seconds(), float64(inOps-t.inOps)/float64(took)
	t.inOps = inOps
	if t.step%t.EvalEvery == 0 || t.step == t.Steps {
		if r.Validation, err = t.evaluate(ctx); err != nil {
			return Record{}, err
		}
		t.best = min(t.best, r.Validation)
		t.inOps = opTime(t.rt) // an evaluation is no part of the next step
	}
	r.WireBytes = t.forum.Sent() - sent
	if t.recent = append(t.recent, loss); len(t.recent) > remembered {
		t.recent = t.recent[1:]
	}
	return r, nil
}

// gradients are those of this rank's batches, a share of the step's. It returns how ternary the weights were, the mean loss, and that of the last batch.
func (t *trainer) gradients(ctx context.Context) (mix float32, loss, last float64, err error) {
	if mix, err = t.setMix(ctx, t.step); err != nil {
		return mix, 0, 0, err
	}
	if err := t.model.ZeroGrad(); err != nil {
		return mix, 0, 0, err
	}
	for micro := range t.Accumulate {
		t.text.batch(t.step, micro, t.tokens, t.targets)
		last, err = t.model.Backward(ctx, t.tokens, t.targets, t.Batch, t.Context, 1/float32(t.text.all))
		if errors.Is(err, runtime.ErrNonFinite) { // an activation, which names its layer
			err = fmt.Errorf("%w: step %d: %w", ErrDiverged, t.step+1, err)
		}
		if err != nil {
			return mix, 0, 0, err
		}
		loss += last / float64(t.Accumulate)
	}
	if loss-loss != 0 {
		err = fmt.Errorf("%w: step %d: the loss is %v; %s", ErrDiverged, t.step+1, loss, t.culprit())
	}
	return mix, loss, last, err
}

// opTime is how long kernels have run since the runtime was opened. Of short calls it knows some and counts them for the others.
func opTime(rt *runtime.Runtime) (sum time.Duration) {
	for _, m := range rt.Metrics() {
		sum += m.Time
	}
	return sum
}

// culprit names the first parameter whose gradient is not finite.
func (t *trainer) culprit() string {
	if err := t.model.Home(); err != nil {
		return fmt.Sprintf("and why cannot be seen: %v", err)
	}
	for _, p := range t.model.Params() {
		for i, g := range p.Grad {
			if g-g != 0 {
				return fmt.Sprintf("the gradient of %s is %v at %d", p.Name, g, i)
			}
		}
	}
	return "all gradients are finite"
}

// evaluate is the mean loss over windows of the validation text, as the weights are when they are as ternary as they get in the next step. Ranks take turns with the batches, whose losses are added in one order.
func (t *trainer) evaluate(ctx context.Context) (float64, error) {
	_, err := t.setMix(ctx, t.step)
	windows := len(t.text.starts)
	batches := (windows-1)/t.Batch + 1
	if t.losses == nil {
		t.losses = make([]float64, (batches-1)/t.Ranks+1)
	}
	for i := t.forum.Rank(); i < batches && err == nil; i += t.Ranks {
		n := t.text.window(i*t.Batch, t.tokens, t.targets)
		t.losses[i/t.Ranks], err = t.model.Loss(ctx, t.tokens[:n*t.Context], t.targets[:n*t.Context], n, t.Context)
	}
	if t.ofAll, err = t.forum.All(t.ofAll, t.losses, err); err != nil {
		return 0, err
	}
	sum := 0.0
	for i := range batches {
		n := min(t.Batch, windows-i*t.Batch)
		sum += float64(t.ofAll[i%t.Ranks*len(t.losses)+i/t.Ranks] * float64(n))
	}
	return sum / float64(windows), nil
}

// sample goes on from a line's end.
func (t *trainer) sample(ctx context.Context, n int) (string, error) {
	var out []int32
	if _, err := t.setMix(ctx, t.step); err != nil {
		return "", err
	}
	err := t.model.Generate(ctx, []int32{t.text.start()}, n, 0.8, 40, t.Seed, func(token int32) error { out = append(out, token); return nil })
	if err != nil {
		return "", err
	}
	return t.text.decode(out)
}

func (t *trainer) summary(records []Record) Summary {
	s := Summary{Config: t.Config, Step: t.step, Seconds: time.Since(t.begin).Seconds(), Tokens: int64(t.done) * int64(t.Batch) * int64(t.Context) * int64(t.text.all)}
	for _, p := range t.model.Params() {
		s.Parameters += len(p.Value)
		if p.Ternary && t.Ternary {
			s.Ternary += len(p.Value)
		}
	}
	for _, l := range t.recent {
		s.Loss += l / float64(len(t.recent))
	}
	busy, all := 0.0, 0.0
	for i := range records {
		if r := &records[i]; r.TokensPerSecond > 0 {
			took := 1 / r.TokensPerSecond
			busy, all = busy+took*r.Runtime, all+took
		}
		if records[i].Validation > 0 {
			s.Validation = records[i].Validation
		}
	}
	if all > 0 {
		s.Runtime = busy / all
	}
	t.wire(&s, records)
	if t.best < math.Inf(1) {
		s.Best = t.best
	}
	s.Order = t.layers.order(t.model.Params())
	for _, m := range t.rt.Metrics() {
		s.Kernels = append(s.Kernels, KernelUse{m.Op, m.Kernel, m.Calls, m.Time.Seconds()})
	}
	slices.SortStableFunc(s.Kernels, func(a, b KernelUse) int { return cmp.Compare(b.Seconds, a.Seconds) })
	return s
}

func (t *trainer) warn(err error) {
	if err != nil && t.opts.Warn != nil {
		t.opts.Warn(err)
	}
}
