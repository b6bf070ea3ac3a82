// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"context"
	"fmt"
	"math"

	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

// Optimizer takes steps on tensors. It is not for several goroutines at once.
type Optimizer struct {
	rt      *setun.Runtime
	opts    Options
	tensors []Tensor
	parts   []part
	step    int // taken so far
	weights []quant.Options
	region  setun.Clusters // the argument of one call
	open    []float64      // radii that limit nothing
	norms   []float64      // one a tensor
	lined   []float32      // the step of one tensor with clusters, the rows of each side by side; as long as the largest of these
	scratch []float64      // the values of the largest ternary tensor, when flips are limited
	groups  int
	mapped  []*setun.Buffer // moments and steps; nil: not mapped
}

// New makes an optimizer with moments of 0. It keeps references to the tensors' slices. Memory: 12 bytes a parameter with AdamW, 8 with SGD; with CountFlips 2 more a ternary
// weight, and 8 for each of the largest ternary tensor once flips are limited; with clusters 4 for each of the largest tensor that has them.
//
// Errors: ErrArgument, ErrShape.
func New(rt *setun.Runtime, tensors []Tensor, opts Options) (*Optimizer, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if rt == nil {
		return nil, fmt.Errorf("optim: there is no runtime: %w", setun.ErrArgument)
	}
	if err := check(tensors); err != nil {
		return nil, err
	}
	o := &Optimizer{rt: rt, opts: opts, tensors: tensors, parts: make([]part, len(tensors)), norms: make([]float64, len(tensors)), weights: make([]quant.Options, len(tensors))}
	for i, t := range tensors {
		n := len(t.Value)
		p := part{Tensor: t, m: make([]float32, n), delta: make([]float32, n), rows: make([]float64, t.Rows)}
		if opts.Method == AdamW {
			p.v = make([]float32, n)
		}
		if t.Ternary && opts.CountFlips {
			p.before, p.after = new(quant.Tensor), new(quant.Tensor)
		}
		w := opts.Weights
		w.Cols, w.Format, w.Seed = t.Cols, quant.Int8, 0
		if w.Group == quant.PerRow {
			w.Group = t.Cols
		}
		if t.Ternary && w.Group > t.Cols {
			return nil, fmt.Errorf("optim: %s: rows of %d are shorter than groups of %d: %w", t.Name, t.Cols, w.Group, setun.ErrArgument)
		}
		o.weights[i] = w
		p.setGroups(nil, 1)
		o.parts[i] = p
	}
	return o, nil
}

// Steps returns how many steps were taken.
func (o *Optimizer) Steps() int { return o.step }

// due says whether clusters are made before the next step.
func (o *Optimizer) due() bool {
	return o.opts.Groups != ByTensor && (o.step == 0 || o.opts.Every > 0 && o.step%o.opts.Every == 0)
}

// Step takes one step by the gradients in Grad, which it clips in place. It allocates nothing, except in steps that make clusters.
//
// Errors: ErrArgument for c, ErrNonFinite naming tensor and index, ctx's error. When a gradient is not finite, or clustering fails, values and moments are untouched (the gradients
// may have been clipped). Later errors wrap ErrUnfinished: Δ or the new values overflowed, or the runtime failed; moments, then perhaps values, have changed, and the run must go on
// from a state that was saved.
func (o *Optimizer) Step(ctx context.Context, c Control) (Report, error) {
	var r Report
	if err := c.check(); err != nil {
		return r, err
	}
	if c.FlipShare > 0 && !o.opts.CountFlips {
		return r, fmt.Errorf("optim: a flip share needs flips to be counted: %w", setun.ErrArgument)
	}
	if ctx == nil {
		ctx = context.Background()
	}
	norm, err := clip(o.rt, o.tensors, o.norms, o.opts.Clip)
	if err != nil {
		return r, err
	}
	r.Step, r.GradNorm = o.step+1, norm
	shrunk := 1.0 // what clipping left of g
	if limit := float64(o.opts.Clip * inward); o.opts.Clip > 0 && norm > limit {
		r.Clipped, shrunk = true, limit/norm
	}
	if r.Cosine, err = o.cosine(float64(norm * shrunk)); err != nil {
		return r, err
	}
	if o.due() {
		if err := o.Recluster(ctx); err != nil {
			return r, err
		}
	}
	if err := o.codes(false); err != nil {
		return r, err
	}
	if err := o.take(c, &r, shrunk); err != nil {
		return r, fmt.Errorf("%w: %w", ErrUnfinished, err)
	}
	return r, nil
}

// take is the part of a step that changes moments and values. shrunk is what clipping left of the gradient.
func (o *Optimizer) take(c Control, r *Report, shrunk float64) error {
	if err := o.propose(c); err != nil {
		return err
	}
	if err := o.measure(); err != nil {
		return err
	}
	r.Update = o.norm()
	if err := o.setRadii(c); err != nil {
		return err
	}
	if err := o.project(r); err != nil {
		return err
	}
	if r.Norm = r.Update; r.Projected > 0 {
		var err error
		if r.Norm, err = o.taken(); err != nil {
			return err
		}
	}
	if !o.opts.Unguided {
		for i := range o.parts {
			var err error
			if o.norms[i], err = o.dot(&o.parts[i]); err != nil {
				return err
			}
		}
		r.Predicted = -canon.Sum(o.norms) / shrunk
	}
	return o.finish(r)
}

// cosine returns that of the gradients, whose norm is given, and the previous step.
func (o *Optimizer) cosine(norm float64) (float64, error) {
	if o.opts.Unguided || o.step == 0 || norm == 0 {
		return 0, nil
	}
	dots, squares := 0.0, 0.0
	for i := range o.parts {
		p := &o.parts[i]
		dot, err := o.dot(p)
		if err != nil {
			return 0, err
		}
		square, err := o.rt.Dot(p.delta, p.delta)
		if err != nil {
			return 0, fmt.Errorf("optim: step of %s: %w", p.Name, err)
		}
		dots, squares = dots+dot, squares+square
	}
	if squares == 0 {
		return 0, nil
	}
	return max(-1, min(1, dots/(norm*math.Sqrt(squares)))), nil
}

// dot returns ⟨g, Δ⟩ of a part.
func (o *Optimizer) dot(p *part) (float64, error) {
	sum, err := o.rt.Dot(p.delta, p.Grad)
	if err != nil {
		return 0, fmt.Errorf("optim: gradient and step of %s: %w", p.Name, err)
	}
	return sum, nil
}

// codes quantizes the ternary values, before or after the step.
func (o *Optimizer) codes(after bool) (err error) {
	for i := range o.parts {
		p := &o.parts[i]
		if p.before == nil {
			continue
		}
		q := p.before
		if after {
			q = p.after
		}
		if _, err = o.rt.Quantize(q, p.Value, o.weights[i]); err != nil {
			return fmt.Errorf("optim: %s: %w", p.Name, err)
		}
	}
	return nil
}

// measure sets the norms of all groups' steps.
func (o *Optimizer) measure() error {
	o.groups = 0
	for i := range o.parts {
		p := &o.parts[i]
		for len(o.open) < p.groups() {
			o.open = append(o.open, math.Inf(1))
		}
		if err := o.constrain(p, o.open[:p.groups()], p.norms); err != nil {
			return err
		}
		o.groups += p.groups()
	}
	return nil
}

// constrain projects the groups of a part. Rows of a cluster are brought side by side for it; only those of clusters that were outside of their balls go back, few in most steps.
func (o *Optimizer) constrain(p *part, radii, norms []float64) error {
	delta := p.delta
	if p.order != nil {
		if err := o.rt.Home(p.delta); err != nil {
			return err
		}
		delta = p.gather(o.lined)
	}
	o.region = setun.Clusters{Offsets: p.span, Radii: radii, Norms: norms}
	if _, err := o.rt.ConstrainClusters(delta, delta, &o.region); err != nil {
		return fmt.Errorf("optim: step of %s: %w", p.Name, err)
	}
	if p.order != nil {
		outside := false
		for c, n := range norms {
			if n > radii[c] {
				p.scatter(delta, c)
				outside = true
			}
		}
		if outside {
			return o.rt.Changed(p.delta)
		}
	}
	return nil
}

// norm returns ‖Δ‖ of all, from the norms of the groups.
func (o *Optimizer) norm() float64 {
	for i := range o.parts {
		o.norms[i] = root(o.parts[i].norms)
	}
	return root(o.norms)
}

// taken returns ‖Δ‖ of all after the projection; the norms of the groups stay those before it.
func (o *Optimizer) taken() (float64, error) {
	for i := range o.parts {
		var err error
		if o.norms[i], err = o.rt.Norm2(o.parts[i].delta); err != nil {
			return 0, fmt.Errorf("optim: step of %s: %w", o.parts[i].Name, err)
		}
	}
	return root(o.norms), nil
}

// setRadii sets the radii and limits of all groups.
func (o *Optimizer) setRadii(c Control) error {
	if err := o.share(c.Radius); err != nil {
		return err
	}
	for i := range o.parts {
		p := &o.parts[i]
		if p.before != nil && c.FlipShare > 0 {
			if len(o.scratch) < len(p.Value) {
				o.scratch = make([]float64, len(p.Value))
			}
			if err := o.rt.Home(p.Value, p.delta); err != nil {
				return err
			}
			p.limit(c.FlipShare, o.opts.FlipFloor, o.opts.FlipFrom, o.scratch)
			continue
		}
		for g := range p.limits {
			p.limits[g] = math.Inf(1)
		}
	}
	return nil
}

// share divides the radius of the step among the groups, so that Σ w_g² ≤ w².
func (o *Optimizer) share(radius float64) error {
	if radius == 0 || math.IsInf(radius, 1) {
		for i := range o.parts {
			for g := range o.parts[i].radii {
				o.parts[i].radii[g] = math.Inf(1)
			}
		}
		return nil
	}
	values, squares := 0.0, 0.0
	for i := range o.parts {
		p := &o.parts[i]
		values += float64(len(p.Value))
		if o.opts.Share == ByNorm {
			if err := o.rt.Home(p.Value); err != nil {
				return err
			}
			for g := range p.radii {
				p.radii[g] = p.square(g) // kept here for the second walk
				squares += p.radii[g]
			}
		}
	}
	total := 0.0
	for i := range o.parts {
		p := &o.parts[i]
		for g := range p.radii {
			w := float64(p.span[g+1]-p.span[g]) / values
			if o.opts.Share == ByNorm && squares > 0 {
				w = float64(15./16*(p.radii[g]/squares)) + w/16
			}
			w = float64(w * float64(p.reach[g]*p.reach[g]))
			p.radii[g] = w
			total += w
		}
	}
	for i := range o.parts {
		p := &o.parts[i]
		for g := range p.radii {
			if w := p.radii[g]; w > 0 { // else 0: also when total is
				p.radii[g] = float64(float64(radius*inward) * math.Sqrt(w/total))
			}
		}
	}
	return nil
}

// project shortens the steps of the groups that are outside of their balls. Tensors with none are not looked at again.
func (o *Optimizer) project(r *Report) error {
	r.Groups = o.groups
	for i := range o.parts {
		p := &o.parts[i]
		outside := 0
		for g, n := range p.norms {
			if n > min(p.radii[g], p.limits[g]) {
				outside++
				if p.limits[g] < p.radii[g] {
					r.Limited++
				}
			}
		}
		if outside == 0 {
			continue
		}
		r.Projected += outside
		room := o.room(2 * len(p.norms))
		least, again := room[:len(p.norms)], room[len(p.norms):]
		for g := range least {
			least[g] = min(p.radii[g], p.limits[g])
		}
		if err := o.constrain(p, least, again); err != nil {
			return err
		}
	}
	return nil
}

// room returns scratch of n values.
func (o *Optimizer) room(n int) []float64 {
	if len(o.scratch) < n {
		o.scratch = make([]float64, n)
	}
	return o.scratch[:n]
}

// finish adds the step to the values and counts what that changed.
func (o *Optimizer) finish(r *Report) error {
	for i := range o.parts {
		p := &o.parts[i]
		if err := o.add(p); err != nil {
			return fmt.Errorf("optim: %s: %w", p.Name, err)
		}
		if p.before != nil {
			if err := o.rt.Home(p.Value); err != nil {
				return fmt.Errorf("optim: %s: %w", p.Name, err)
			}
			r.Expected += p.flips()
			r.Codes += int64(len(p.Value))
		}
	}
	for i := range o.parts {
		var err error
		if o.norms[i], err = o.rt.Norm2(o.parts[i].Value); err != nil {
			return fmt.Errorf("optim: values of %s after the step: %w", o.parts[i].Name, err)
		}
	}
	r.ValueNorm = root(o.norms)
	if err := o.codes(true); err != nil {
		return err
	}
	for i := range o.parts {
		if p := &o.parts[i]; p.before != nil {
			for j, q := range p.after.Codes {
				if q != p.before.Codes[j] {
					r.Flips++
				}
			}
		}
	}
	o.step++
	return nil
}
