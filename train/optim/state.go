// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"fmt"
	"math"
	"slices"
)

// State is everything that an Optimizer or a Compressor has to keep for a run to go on with the same bits; options and values of the tensors are the caller's. Keys are
// "tensor/what". Every number is finite, so any encoding that keeps floats to the bit will do, JSON among them.
type State struct {
	Step    int                  `json:"step"`
	Floats  map[string][]float32 `json:"floats"`            // as many as the tensor has values, in row order
	Labels  map[string][]int32   `json:"labels,omitempty"`  // the cluster of each row
	Factors map[string][]float64 `json:"factors,omitempty"` // of each cluster
}

// keep copies values into a state, into memory that it had before when that fits.
func keep[E any](m map[string][]E, key string, values []E) { m[key] = append(m[key][:0], values...) }

func (s *State) ready() {
	if s.Floats == nil {
		s.Floats = map[string][]float32{}
	}
}

// take returns what a state has under a key, of a given length, finite and, when that is asked for, not negative.
func take(s *State, key string, n int, signed bool) ([]float32, error) {
	v, ok := s.Floats[key]
	if !ok || len(v) != n {
		return nil, fmt.Errorf("optim: %s has %d values where %d are needed: %w", key, len(v), n, ErrState)
	}
	for i, x := range v {
		if x-x != 0 || !signed && x < 0 {
			return nil, fmt.Errorf("optim: %s, value %d = %v: %w", key, i, x, ErrState)
		}
	}
	return v, nil
}

// State copies the optimizer's state to dst, whose memory is used again, or to a new one when it is nil: moments, the latest step, clusters and their factors, the number of steps. Of a mapped
// optimizer it is the state of the latest Home.
func (o *Optimizer) State(dst *State) *State {
	if dst == nil {
		dst = new(State)
	}
	dst.ready()
	if dst.Factors == nil {
		dst.Factors = map[string][]float64{}
	}
	dst.Step = o.step
	for i := range o.parts {
		p := &o.parts[i]
		keep(dst.Floats, p.Name+"/m", p.m)
		if p.v != nil {
			keep(dst.Floats, p.Name+"/v", p.v)
		}
		keep(dst.Floats, p.Name+"/step", p.delta)
		if p.labels != nil {
			if dst.Labels == nil {
				dst.Labels = map[string][]int32{}
			}
			keep(dst.Labels, p.Name, p.labels)
		} else {
			delete(dst.Labels, p.Name)
		}
		keep(dst.Factors, p.Name+"/rate", p.rate)
		keep(dst.Factors, p.Name+"/reach", p.reach)
	}
	return dst
}

// Load puts the optimizer into a state that State returned, for tensors of the same names and shapes and the same Method. It copies.
//
// Errors: ErrState naming what is missing, of another length, or out of range; the optimizer is as before then.
func (o *Optimizer) Load(s *State) error {
	if s == nil || s.Step < 0 {
		return fmt.Errorf("optim: there is no state: %w", ErrState)
	}
	for i := range o.parts { // everything is looked at before anything is changed
		p := &o.parts[i]
		n := len(p.Value)
		if _, err := take(s, p.Name+"/m", n, true); err != nil {
			return err
		}
		if _, err := take(s, p.Name+"/step", n, true); err != nil {
			return err
		}
		if p.v != nil {
			if _, err := take(s, p.Name+"/v", n, false); err != nil {
				return err
			}
		}
		if err := p.checkClusters(s); err != nil {
			return err
		}
	}
	o.step = s.Step
	for i := range o.parts {
		p := &o.parts[i]
		o.group(p, slices.Clone(s.Labels[p.Name]), len(s.Factors[p.Name+"/rate"]))
		copy(p.rate, s.Factors[p.Name+"/rate"])
		copy(p.reach, s.Factors[p.Name+"/reach"])
		copy(p.m, s.Floats[p.Name+"/m"])
		copy(p.v, s.Floats[p.Name+"/v"])
		copy(p.delta, s.Floats[p.Name+"/step"])
		if err := o.rt.Changed(p.m, p.v, p.delta); err != nil {
			return err
		}
	}
	return nil
}

// checkClusters says whether labels and factors of a state fit a tensor.
func (p *part) checkClusters(s *State) error {
	labels, rate, reach := s.Labels[p.Name], s.Factors[p.Name+"/rate"], s.Factors[p.Name+"/reach"]
	k := len(rate)
	if k == 0 || k != len(reach) || labels == nil && k != 1 || labels != nil && len(labels) != p.Rows || k > p.Rows {
		return fmt.Errorf("optim: %s: %d labels of %d rows with %d and %d factors: %w", p.Name, len(labels), p.Rows, k, len(reach), ErrState)
	}
	for r, l := range labels {
		if l < 0 || int(l) >= k {
			return fmt.Errorf("optim: %s: label %d = %d is not within 0..%d: %w", p.Name, r, l, k-1, ErrState)
		}
	}
	for c := range rate {
		if !(rate[c] >= 0) || !(reach[c] >= 0) || math.IsInf(rate[c], 1) || math.IsInf(reach[c], 1) {
			return fmt.Errorf("optim: %s: factors %v and %v of cluster %d: %w", p.Name, rate[c], reach[c], c, ErrState)
		}
	}
	return nil
}

// State copies the residuals of error feedback to dst, whose memory is used again, or to a new one when it is nil.
func (c *Compressor) State(dst *State) *State {
	if dst == nil {
		dst = new(State)
	}
	dst.ready()
	for i, e := range c.residual {
		keep(dst.Floats, c.tensors[i].Name+"/residual", e)
	}
	return dst
}

// Load is the inverse of State. Errors: ErrState; the compressor is as before then.
func (c *Compressor) Load(s *State) error {
	if s == nil {
		return fmt.Errorf("optim: there is no state: %w", ErrState)
	}
	for i, e := range c.residual {
		if _, err := take(s, c.tensors[i].Name+"/residual", len(e), true); err != nil {
			return err
		}
	}
	for i, e := range c.residual {
		copy(e, s.Floats[c.tensors[i].Name+"/residual"])
	}
	return nil
}
