// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"sync"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// What the ops between the products of a network take, and what a step of its optimiser takes.
type (
	RMSNorm  = backends.RMSNorm
	Softmax  = backends.Softmax
	Activate = backends.Activate
	Update   = backends.Update

	Function = backends.Function // of Activate
	Method   = backends.Method   // of Update
)

// The functions of Activate and the methods of Update.
const (
	ReLU2    = backends.ReLU2
	SwiGLU   = backends.SwiGLU
	AdamW    = backends.AdamW
	Momentum = backends.Momentum
)

// NormBlock is how many rows of an RMSNorm's gradient share a row of its Parts.
const NormBlock = backends.NormBlock

var (
	normArgs     = sync.Pool{New: func() any { return new(RMSNorm) }}
	softmaxArgs  = sync.Pool{New: func() any { return new(Softmax) }}
	activateArgs = sync.Pool{New: func() any { return new(Activate) }}
	updateArgs   = sync.Pool{New: func() any { return new(Update) }}
)

func doNorm(m *arm, a *RMSNorm) error      { return m.backend.RMSNorm(m.kernel, a) }
func doSoftmax(m *arm, a *Softmax) error   { return m.backend.Softmax(m.kernel, a) }
func doActivate(m *arm, a *Activate) error { return m.backend.Activate(m.kernel, a) }
func doUpdate(m *arm, a *Update) error     { return m.backend.Update(m.kernel, a) }

// RMSNorm divides rows by their root mean square, or, with DY, computes the gradient of that; see the type for the formula and for which memory may be shared.
//
// Errors: ErrArgument, ErrShape, ErrAlias, before anything is written. Values are not checked: infinities and NaN propagate. Deterministic: the same bits on every kernel (docs/numerics.md).
func (rt *Runtime) RMSNorm(c RMSNorm) error {
	a := normArgs.Get().(*RMSNorm)
	*a = c
	err := a.Check()
	if err == nil {
		s := dispatch.RMSNorm(a.Rows(), a.Cols, a.DY != nil)
		grad := a.DY != nil
		p := rt.placing().with(slice(a.X), &a.XAt, true, false).with(slice(a.Gain), &a.GainAt, true, false).with(slice(a.Scale), &a.ScaleAt, grad, !grad).with(slice(a.Out), &a.OutAt, a.Add, true)
		if grad {
			p = p.with(slice(a.DY), &a.DYAt, true, false).with(slice(a.DGain), &a.DGainAt, true, true)
		} else {
			p = p.with(slice(a.Delta), &a.DeltaAt, true, false).with(slice(a.Sum), &a.SumAt, false, true)
		}
		err = runPlaced(context.Background(), rt, 0, p, &s, a, doNorm, once)
	}
	*a = RMSNorm{}
	normArgs.Put(a)
	return err
}

// Softmax replaces rows by their softmax, in which a factor and the mask of causal attention are included, or, with P, the gradient of that by the gradient of the scores; see the type.
//
// Errors: ErrArgument, ErrShape, ErrAlias, before anything is written. Values are not checked: a row with a NaN or +Inf becomes NaN. Deterministic: the same bits on every kernel (docs/numerics.md).
func (rt *Runtime) Softmax(c Softmax) error {
	a := softmaxArgs.Get().(*Softmax)
	*a = c
	err := a.Check()
	if err == nil {
		s := dispatch.Softmax(a.Rows(), a.Cols, a.Period, a.P != nil)
		p := rt.placing().with(slice(a.X), &a.XAt, true, true).with(slice(a.P), &a.PAt, true, false).output(8 * float64(len(a.Stats)))
		err = runPlaced(context.Background(), rt, 0, p, &s, a, doSoftmax, once)
	}
	*a = Softmax{}
	softmaxArgs.Put(a)
	return err
}

// Activate computes ReLU² or SwiGLU of rows, or, with DY, the gradient; see the type.
//
// Errors: ErrArgument, ErrShape, ErrAlias, before anything is written. Values are not checked: infinities and NaN propagate. Deterministic: the same bits on every kernel (docs/numerics.md).
func (rt *Runtime) Activate(c Activate) error {
	a := activateArgs.Get().(*Activate)
	*a = c
	err := a.Check()
	if err == nil {
		s := dispatch.Activate(a.Function, a.Rows(), a.Cols, a.DY != nil)
		p := rt.placing().with(slice(a.X), &a.XAt, true, false).with(slice(a.DY), &a.DYAt, true, false).with(slice(a.Out), &a.OutAt, false, true)
		err = runPlaced(context.Background(), rt, 0, p, &s, a, doActivate, once)
	}
	*a = Activate{}
	activateArgs.Put(a)
	return err
}

// Update advances the moments of an optimiser by a gradient and computes its step, without taking it: what Constrain or Step then does; see the type.
//
// Errors: ErrArgument for constants that are not finite, ErrShape, ErrAlias, before anything is written. Values are not checked: infinities and NaN propagate. Deterministic: the same bits on every kernel (docs/numerics.md).
func (rt *Runtime) Update(c Update) error {
	a := updateArgs.Get().(*Update)
	*a = c
	err := a.Check()
	if err == nil {
		s := dispatch.Update(a.Method, len(a.Value))
		p := rt.placing().with(slice(a.Value), &a.ValueAt, true, false).with(slice(a.Grad), &a.GradAt, true, false).with(slice(a.M), &a.MAt, true, true).with(slice(a.V), &a.VAt, true, true).with(slice(a.Delta), &a.DeltaAt, false, true)
		err = runPlaced(context.Background(), rt, 0, p, &s, a, doUpdate, once)
	}
	*a = Update{}
	updateArgs.Put(a)
	return err
}
