// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"fmt"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/stn"
	"github.com/setun-compute/setun/runtime"
)

// Pack writes what the model is when it is done: the weights of linear layers as the ternary tensors of the latest Refresh, in the coding that is smallest for each, and all other parameters as float32, under their names. λ is not
// asked for: a model whose layers are not all ternary yet computes something else than what is packed. A model that is not ternary has float32 values alone. The configuration is the caller's to keep.
//
// Errors are the writer's.
func (m *Model) Pack(w *stn.Writer) error {
	codes := make(map[*Param]*quant.Tensor, len(m.linears))
	if m.c.Ternary {
		for _, l := range m.linears {
			codes[l.w] = l.codes
		}
	}
	for _, p := range m.params {
		shape := []int64{int64(p.Rows), int64(p.Cols)}
		if p.Rows == 1 {
			shape = shape[1:]
		}
		var err error
		if q := codes[p]; q != nil {
			err = w.Add(p.Name, shape, q, 0)
		} else {
			// float32, not 16 bits: the file's model is to say what the trained one said, to the bit.
			err = w.AddFloats(p.Name, shape, stn.F32, p.Value)
		}
		if err != nil {
			return fmt.Errorf("model: pack: %w", err)
		}
	}
	return nil
}

// Packed is a trained model that cannot be trained on: no latent weights, no gradients. Make one with Unpack. Everything it computes has the bits of the Model that was packed, at λ = 1.
//
// With QuantizeActivations it keeps two bits a ternary weight and multiplies them by the runtime's TernaryMatMul. Without, inputs of linear layers are float32, and so are the products that give the same bits: weights are turned
// into float32 when they are read, and take as much memory as those of a float32 model. It serves one call at a time.
type Packed struct {
	m     *Model
	bytes int64
}

// maxPacked bounds the memory of a Packed with the keys and values of a text: a small file can stand for large tensors.
const maxPacked = 16 << 30

// Unpack reads a model of a configuration from a file that Pack wrote, which may be closed afterwards; rt must stay open. All of it is compared with the configuration before anything is allocated for it.
//
// Errors: a *ConfigError; ErrPacked for tensors that are missing, too many, of another shape or kind, or not finite; ErrPacked with stn.ErrLimit for more than 16 GiB; stn's of a file that is damaged.
func Unpack(rt *runtime.Runtime, c Config, f *stn.File) (*Packed, error) {
	c = c.withDefaults()
	if rt == nil {
		return nil, &ConfigError{Field: "runtime", Detail: "is nil"}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := fits(&c, f); err != nil {
		return nil, err
	}
	m := blank(rt, c)
	m.wire()
	k := &Packed{m: m}
	for _, p := range m.params {
		if p.Ternary && c.Ternary {
			continue
		}
		var err error
		if p.Value, err = f.Floats(p.Name, nil); err != nil {
			return nil, fmt.Errorf("model: unpack: %w", err)
		}
		for i, v := range p.Value {
			if v-v != 0 {
				return nil, fmt.Errorf("%w: %s[%d] is %v", ErrPacked, p.Name, i, v)
			}
		}
		k.bytes += int64(4 * len(p.Value))
	}
	for _, l := range m.linears {
		n, err := l.unpack(m, f)
		if err != nil {
			return nil, fmt.Errorf("model: unpack: %w", err)
		}
		k.bytes += n
	}
	return k, nil
}

// unpack gives the layer what it multiplies by, and returns the bytes that were read for it alone.
func (l *linear) unpack(m *Model, f *stn.File) (int64, error) {
	if !m.c.Ternary {
		l.weight = l.w.Value
		return 0, nil
	}
	q, err := f.Tensor(l.w.Name, nil)
	if err != nil {
		return 0, err
	}
	if !m.c.QuantizeActivations {
		l.weight, err = q.Dequantize(nil)
		return int64(4 * len(l.weight)), err
	}
	if l.packed, err = m.rt.Convert(nil, q, quant.Bits2); err != nil {
		return 0, err
	}
	l.codes, l.mix = l.packed, 1
	return int64(l.packed.Bytes()), nil
}

// fits compares what the file's header says with the configuration.
func fits(c *Config, f *stn.File) error {
	tensors := f.Tensors()
	want := 2 + parametersOfLayer*c.Layers + 1
	if !c.TieEmbeddings {
		want++
	}
	if len(tensors) != want { // first, because describe makes as many
		return fmt.Errorf("%w: %d tensors, a model of %d layers has %d", ErrPacked, len(tensors), c.Layers, want)
	}
	byName := make(map[string]*stn.Info, len(tensors))
	for i := range tensors {
		byName[tensors[i].Name] = &tensors[i]
	}
	bytes := 12 * float64(c.Layers) * float64(c.Context) * float64(c.Width) // keys and values
	for _, p := range describe(c) {
		t, ternary := byName[p.Name], p.Ternary && c.Ternary
		switch n := int64(p.Rows) * int64(p.Cols); {
		case t == nil:
			return fmt.Errorf("%w: there is no %s", ErrPacked, p.Name)
		case t.Values() != n || len(t.Shape) > 0 && t.Shape[len(t.Shape)-1] != int64(p.Cols):
			return fmt.Errorf("%w: %s has the shape %v, not %d×%d", ErrPacked, p.Name, t.Shape, p.Rows, p.Cols)
		case ternary != (t.Kind == stn.Quantized):
			return fmt.Errorf("%w: %s is %v", ErrPacked, p.Name, t.Kind)
		case ternary && (t.Levels != quant.Ternary || t.Cols != p.Cols || t.Group != quant.Options{Cols: p.Cols, Group: c.Group}.WithDefaults(0).Group):
			return fmt.Errorf("%w: %s has %v codes in rows of %d and groups of %d", ErrPacked, p.Name, t.Levels, t.Cols, t.Group)
		case ternary && c.QuantizeActivations:
			bytes += float64(n) / 4
		default:
			bytes += 4 * float64(n)
		}
	}
	if bytes > maxPacked {
		return fmt.Errorf("%w: %.0f bytes of memory; %d are allowed: %w", ErrPacked, bytes, int64(maxPacked), stn.ErrLimit)
	}
	return nil
}

// Config returns the model's configuration.
func (k *Packed) Config() Config { return k.m.c }

// Bytes returns what the parameters take in memory.
func (k *Packed) Bytes() int64 { return k.bytes }

// Generate is Model.Generate.
func (k *Packed) Generate(ctx context.Context, prompt []int32, n int, temperature float64, topK int, seed uint64, emit func(int32) error) error {
	return k.m.Generate(ctx, prompt, n, temperature, topK, seed, emit)
}

// Forward is Model.Forward.
func (k *Packed) Forward(ctx context.Context, tokens []int32, batch, length int) (logits []float32, err error) {
	return k.m.Forward(ctx, tokens, batch, length)
}

// Loss is Model.Loss.
func (k *Packed) Loss(ctx context.Context, tokens, targets []int32, batch, length int) (float64, error) {
	return k.m.Loss(ctx, tokens, targets, batch, length)
}
