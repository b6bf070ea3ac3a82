// SPDX-License-Identifier: Apache-2.0

package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/auxnn"
	"github.com/setun-compute/setun/train/model"
	"github.com/setun-compute/setun/train/optim"
)

// Options are what a run needs beside its Config: nothing here changes its bits.
type Options struct {
	Folder   string       // of metrics.jsonl, checkpoint.stn, summary.json and report.html; "": nothing is written
	Resume   bool         // go on from the folder's checkpoint when there is one
	Stop     int          // after so many steps of the run, as if it had been interrupted; 0: at its end
	Progress func(Record) // after each step
	Warn     func(error)  // of what the run survives: a checkpoint or a line of metrics that could not be written. Nil: nobody hears of it
	Sample   int          // tokens of the sample at the end; 0: none
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
	opTime time.Duration // of the model, when the run began
	done   int           // steps of this process

	tokens, targets []int32
}

// remembered is how many steps the loss of a summary is averaged over.
const remembered = 100

// Run trains. It returns what it came to and the record of each step of this process, also with an error: ErrConfig, ErrCheckpoint for a checkpoint of another configuration (the fields that differ are named),
// ErrDiverged for a loss or a gradient that is not finite (a checkpoint of the step before is saved), the errors of data and file system, and ctx's after a checkpoint was saved.
func Run(ctx context.Context, rt *runtime.Runtime, c Config, o Options) (Summary, []Record, error) {
	t, err := newTrainer(ctx, rt, c, o)
	if err != nil {
		return Summary{Config: c}, nil, err
	}
	log, err := t.openMetrics()
	if err != nil {
		return Summary{Config: c}, nil, err
	}
	defer log.Close()
	records, err := t.run(ctx, metrics{log})
	s := t.summary(records)
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
	text, err := openCorpus(ctx, rt, &c)
	if err != nil {
		return nil, err
	}
	t := &trainer{Config: c, opts: o, rt: rt, text: text, best: math.Inf(1), begin: time.Now()}
	n := c.Batch * c.Context
	t.tokens, t.targets = make([]int32, n), make([]int32, n)
	hidden := c.Hidden
	if hidden == 0 {
		hidden = 4 * c.Width
	}
	shape := model.Config{Vocab: text.vocabulary, Context: c.Context, Layers: c.Layers, Heads: c.Heads, Width: c.Width, Hidden: hidden, Activation: c.Activation, Ternary: c.Ternary, QuantizeActivations: c.Ternary && c.Int8, TieEmbeddings: c.Tied}
	weights := quant.Options{Rule: quant.AbsMean}
	if c.Rule == "least-squares" {
		weights.Rule = quant.LeastSquares
	}
	if c.Granularity == "row" {
		weights.Group = quant.PerRow
	}
	shape.Rule, shape.Group = weights.Rule, weights.Group
	if t.model, err = model.New(rt, shape, c.Seed); err != nil {
		return nil, err
	}
	t.plan = optim.Schedule{Kind: optim.Cosine, Steps: c.Steps, Warmup: min(c.Warmup, c.Steps/2), Peak: c.LearningRate, Final: c.MinRate, Decay: c.WeightDecay}
	if c.Schedule == "two-stage" {
		t.plan.Kind = optim.TwoStage
	}
	how := optim.Options{Beta1: c.Beta1, Beta2: c.Beta2, Clip: c.Clip, Seed: c.Seed, Weights: weights, CountFlips: false}
	if c.Optimizer == "sgd" {
		how.Method, how.Momentum = optim.SGD, c.Beta1
	}
	if c.Clusters > 0 {
		how.Groups, how.K, how.Every, how.Factors = optim.ByKMeans, c.Clusters, max(1, c.Steps/10), optim.Relative
	}
	var tensors []optim.Tensor
	for _, p := range t.model.Params() {
		tensors = append(tensors, optim.Tensor(*p))
	}
	if t.optim, err = optim.New(rt, tensors, how); err != nil {
		return nil, err
	}
	if c.Aux {
		t.aux = auxnn.New(auxnn.Options{Seed: c.Seed, FixedRadius: c.Radius == 0})
	}
	if o.Resume {
		err = t.resume()
	}
	return t, err
}

// mix says how ternary the weights are in a step.
func (t *trainer) mix(step int) float32 {
	if !t.Ternary {
		return 0
	}
	begin, over := t.Start*float64(t.Steps), t.Ramp*float64(t.Steps)
	switch at := float64(step) - begin; {
	case at < 0:
		return 0
	case at >= over:
		return 1
	default:
		return float32(at / over)
	}
}

func (t *trainer) run(ctx context.Context, log metrics) (records []Record, err error) {
	t.opTime = t.model.OpTime()
	end := t.Steps
	if t.opts.Stop > 0 {
		end = min(end, t.opts.Stop)
	}
	for t.step < end {
		if err := ctx.Err(); err != nil {
			return records, errors.Join(err, t.save())
		}
		r, err := t.one(ctx)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, ErrDiverged) {
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
			t.warn(t.save())
		}
	}
	return records, t.save()
}

// one takes a step. Parameters are as they were when it fails before the optimiser's step.
func (t *trainer) one(ctx context.Context) (Record, error) {
	begin, inOps := time.Now(), t.model.OpTime()
	mix := t.mix(t.step)
	t.model.SetMix(mix)
	t.model.ZeroGrad()
	loss, last := 0.0, 0.0
	for micro := range t.Accumulate {
		t.text.batch(t.step, micro, t.tokens, t.targets)
		l, err := t.model.Backward(ctx, t.tokens, t.targets, t.Batch, t.Context, 1/float32(t.Accumulate))
		if errors.Is(err, runtime.ErrNonFinite) { // an activation, which names its layer
			return Record{}, fmt.Errorf("%w: step %d: %w", ErrDiverged, t.step+1, err)
		}
		if err != nil {
			return Record{}, err
		}
		loss, last = loss+l/float64(t.Accumulate), l
	}
	if loss-loss != 0 {
		return Record{}, fmt.Errorf("%w: step %d: the loss is %v; %s", ErrDiverged, t.step+1, loss, t.culprit())
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
	if err != nil {
		if errors.Is(err, runtime.ErrNonFinite) {
			err = fmt.Errorf("%w: step %d: %w", ErrDiverged, t.step+1, err)
		}
		return Record{}, err
	}
	if err := t.model.Refresh(); err != nil {
		return Record{}, fmt.Errorf("%w: step %d: %w", ErrDiverged, t.step+1, err)
	}
	t.step++
	t.done++
	flipped, total := t.model.Flips()
	n := int64(t.Batch) * int64(t.Context) * int64(t.Accumulate)
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
	took := time.Since(begin)
	r.TokensPerSecond, r.Runtime = float64(n)/took.Seconds(), float64(t.model.OpTime()-inOps)/float64(took)
	if t.step%t.EvalEvery == 0 || t.step == t.Steps {
		if r.Validation, err = t.evaluate(ctx); err != nil {
			return Record{}, err
		}
		t.best = min(t.best, r.Validation)
	}
	if t.recent = append(t.recent, loss); len(t.recent) > remembered {
		t.recent = t.recent[1:]
	}
	return r, nil
}

// culprit names the first parameter whose gradient is not finite.
func (t *trainer) culprit() string {
	for _, p := range t.model.Params() {
		for i, g := range p.Grad {
			if g-g != 0 {
				return fmt.Sprintf("the gradient of %s is %v at %d", p.Name, g, i)
			}
		}
	}
	return "all gradients are finite"
}

// evaluate is the mean loss over windows of the validation text, as the weights are when they are as ternary as they get in the next step.
func (t *trainer) evaluate(ctx context.Context) (float64, error) {
	t.model.SetMix(t.mix(t.step))
	sum, done := 0.0, 0
	for done < len(t.text.starts) {
		n := t.text.window(done, t.tokens, t.targets)
		l, err := t.model.Loss(ctx, t.tokens[:n*t.Context], t.targets[:n*t.Context], n, t.Context)
		if err != nil {
			return 0, err
		}
		sum, done = sum+l*float64(n), done+n
	}
	return sum / float64(done), nil
}

// sample goes on from a line's end.
func (t *trainer) sample(ctx context.Context, n int) (string, error) {
	var out []int32
	err := t.model.Generate(ctx, []int32{t.text.start()}, n, 0.8, 40, t.Seed, func(token int32) error { out = append(out, token); return nil })
	if err != nil {
		return "", err
	}
	return t.text.decode(out)
}

func (t *trainer) summary(records []Record) Summary {
	s := Summary{Config: t.Config, Step: t.step, Seconds: time.Since(t.begin).Seconds(), Tokens: int64(t.done) * int64(t.Batch) * int64(t.Context) * int64(t.Accumulate)}
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
	if t.best < math.Inf(1) {
		s.Best = t.best
	}
	for _, m := range t.rt.Metrics() {
		s.Kernels = append(s.Kernels, KernelUse{m.Op, m.Kernel, m.Calls, m.Time.Seconds()})
	}
	return s
}

func (t *trainer) warn(err error) {
	if err != nil && t.opts.Warn != nil {
		t.opts.Warn(err)
	}
}
