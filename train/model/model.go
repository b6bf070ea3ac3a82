// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	goruntime "runtime"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
)

// Model is a network with its parameters, gradients and the memory of its passes. Make one with New. It serves one call at a time.
type Model struct {
	rt     *runtime.Runtime
	c      Config
	params []*Param
	grads  []float32 // all of them, in the order of params

	token, position, norm, head *Param
	layers                      []layer
	linears                     []*linear // all of the layers', in the order of params

	flipped, total int

	workers   *workers
	kernels   kernels
	buffers   buffers
	flipParts []int
	int8s     quant.Activations
	room      room
}

// layer is a block of the network, with what its forward pass keeps for its backward pass.
type layer struct {
	norm1, norm2       *Param
	qkv, out, up, down linear

	first, firstNorm, firstScale    []float32 // the residual before attention, its norm, and the norm's factors
	heads                           []float32 // queries, keys and values
	weights                         []float32 // of attention
	mixed                           []float32 // the heads' results
	second, secondNorm, secondScale []float32 // as first, before the feed-forward
	hidden, active                  []float32 // before and after the activation
}

// kernels are the loops' arguments: they are passed by pointer, and would be allocated for every call if they were local.
type kernels struct {
	embed     embedForward
	embedBack embedBackward
	mix       mixWeights
	int8s     mixActivations
}

// buffers are what all layers share. They grow to what the largest call needs, and stay.
type buffers struct {
	delta                      []float32 // what a layer's half adds to the residual
	last, lastNorm, lastScale  []float32 // as layer.first, before the head
	logits                     []float32
	at                         []float32 // logits of the targets
	stats                      []float64 // of the logits' softmax
	residual                   []float32 // its gradient
	row, heads, weights, parts []float32 // gradients of a norm or of heads' results; queries, keys and values; attention weights; gains by blocks of rows
	hidden, active             []float32
}

// grow returns *s with n values, whose contents are unspecified when it had fewer.
func grow[E any](s *[]E, n int) []E {
	if cap(*s) < n {
		*s = make([]E, n)
	}
	return (*s)[:n]
}

// New makes a model whose first weights depend on c and seed alone: the same bits everywhere. A ternary one multiplies by ternary weights from the start (SetMix(1)). rt must stay open. Errors: a *ConfigError.
func New(rt *runtime.Runtime, c Config, seed uint64) (*Model, error) {
	c = c.withDefaults()
	if rt == nil {
		return nil, &ConfigError{Field: "runtime", Detail: "is nil"}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	m := blank(rt, c)
	count := 0
	for _, p := range m.params {
		count += p.Rows * p.Cols
	}
	values := make([]float32, count)
	m.grads = make([]float32, count)
	at := 0
	for _, p := range m.params {
		end := at + p.Rows*p.Cols
		p.Value, p.Grad = values[at:end:end], m.grads[at:end:end]
		at = end
	}
	initialise(&c, m.params, seed)
	m.wire()
	m.SetMix(1)
	return m, m.Refresh()
}

// wire gives the layers their parameters.
func (m *Model) wire() {
	m.token, m.position, m.head = m.params[0], m.params[1], m.params[0]
	rest := m.params[2:]
	for i := range m.layers {
		l, p := &m.layers[i], rest[:parametersOfLayer]
		l.norm1, l.norm2 = p[0], p[3]
		for j, to := range []*linear{&l.qkv, &l.out, &l.up, &l.down} {
			w := p[[]int{1, 2, 4, 5}[j]]
			to.w, to.in, to.out, to.weight = w, w.Cols, w.Rows, w.Value
			m.linears = append(m.linears, to)
		}
		rest = rest[parametersOfLayer:]
	}
	if m.norm = rest[0]; !m.c.TieEmbeddings {
		m.head = rest[1]
	}
}

// blank is a model without values. Its helpers end with it.
func blank(rt *runtime.Runtime, c Config) *Model {
	m := &Model{rt: rt, c: c, params: describe(&c), layers: make([]layer, c.Layers), workers: newWorkers()}
	goruntime.AddCleanup(m, func(work chan struct{}) { close(work) }, m.workers.work)
	return m
}

// Config returns what New was given, with defaults filled in.
func (m *Model) Config() Config { return m.c }

// Params returns the parameters, in an order that depends on the configuration alone. Values of one follow those of another in memory.
func (m *Model) Params() []*Param { return m.params }

// ZeroGrad sets all gradients to 0. The next Backward writes those of linear layers instead of adding to them, so what is put there in between is lost. Errors: none of a model that is not mapped.
func (m *Model) ZeroGrad() error {
	clear(m.grads)
	for _, l := range m.linears {
		l.none = true
	}
	for _, p := range m.params {
		if err := m.rt.Changed(p.Grad); err != nil {
			return err
		}
	}
	return nil
}

// SetMix says what the linear layers of a ternary model multiply by: W + λ·(Q(W) − W), for 0 the latent weights, for 1 (the default) the ternary ones; with QuantizeActivations the inputs likewise. λ outside of [0, 1] becomes the nearer
// end. In a model that is not ternary it does nothing.
func (m *Model) SetMix(lambda float32) {
	if !m.c.Ternary {
		return
	}
	for _, l := range m.linears {
		l.setMix(lambda)
	}
}

// Refresh makes the ternary tensors of the latent weights as they are now. Call it after every change of Param.Value; passes use the tensors of the latest Refresh. In a model that is not ternary it does nothing.
//
// Errors: ErrLatent for a weight that is not finite; some tensors may be new then and others not.
func (m *Model) Refresh() error {
	m.flipped, m.total = 0, 0
	if !m.c.Ternary {
		return nil
	}
	for _, l := range m.linears {
		l.stale = true
		if err := l.refresh(m); err != nil {
			return err
		}
	}
	for _, l := range m.linears {
		n, err := l.blend(m, true)
		if err != nil {
			return err
		}
		m.flipped += n
		m.total += len(l.w.Value)
	}
	return nil
}

// Flips returns how many ternary codes the latest Refresh changed, and of how many. After New they are 0 of all.
func (m *Model) Flips() (flipped, total int) { return m.flipped, m.total }

// fresh mixes those weights again whose λ was changed since.
func (m *Model) fresh() error {
	for _, l := range m.linears {
		if l.stale {
			if _, err := l.blend(m, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// Quantized returns copies of the ternary tensors of the latest Refresh by the names of their parameters, as int8 codes. Errors: ErrTernary for a model that has none.
func (m *Model) Quantized() (map[string]*quant.Tensor, error) {
	if !m.c.Ternary {
		return nil, ErrTernary
	}
	all := make(map[string]*quant.Tensor, len(m.linears))
	for _, l := range m.linears {
		t, err := l.codes.Convert(nil, quant.Int8)
		if err != nil {
			return nil, err
		}
		all[l.w.Name] = t
	}
	return all, nil
}

// matmul is one call of the runtime's. ctx is looked at before it and not inside: no product here takes long, and a context that can end would be allocated for in each call.
func (m *Model) matmul(ctx context.Context, dst, a, b []float32, rows, cols, depth int, o runtime.MatMulOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := m.rt.MatMul(dst, a, b, rows, cols, depth, o)
	return err
}

// ternary multiplies m.int8s.
func (m *Model) ternary(ctx context.Context, dst []float32, w *quant.Tensor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := m.rt.TernaryMatMul(dst, &m.int8s, w)
	return err
}
