// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/gguf"
	"github.com/setun-compute/setun/quant/plan"
	"github.com/setun-compute/setun/quant/stn"
)

// sink is an output file in the making. Its tensors are begun in the order of the input.
type sink interface {
	begin(t *tensor, c *choice) error
	codes(q *quant.Tensor) error
	values(x []float32) error
	bytes(data []byte) error
	end() error
	Close() error
	Abort()
}

func newSink(path string, src source, list []tensor, choices []choice) (sink, error) {
	if ext(path) == ".stn" {
		meta := maps.Clone(src.metadata())
		w, err := stn.Create(path, meta)
		if err != nil {
			return nil, err
		}
		return &stnSink{Writer: w}, nil
	}
	infos := make([]gguf.Info, len(list))
	for i := range list {
		infos[i] = gguf.Info{Name: list[i].name, Dims: dims(list[i].shape), Type: ggufType(src, &list[i], &choices[i])}
	}
	w, err := gguf.Create(path, ggufKeys(src, choices), infos)
	if err != nil {
		return nil, err
	}
	return &ggufSink{Writer: w}, nil
}

// stnSink finds the coding of a tensor that has none by its first chunk, so that it need not be in memory.
type stnSink struct {
	*stn.Writer
	t *tensor
	c *choice // nil once the tensor has begun
}

func (s *stnSink) begin(t *tensor, c *choice) error {
	s.t, s.c = t, nil
	switch c.kind {
	case plan.F32:
		return s.BeginFloats(t.name, t.shape, stn.F32)
	case plan.F16:
		return s.BeginFloats(t.name, t.shape, stn.F16)
	case plan.BF16:
		return s.BeginFloats(t.name, t.shape, stn.BF16)
	}
	s.c = c
	return nil
}

func (s *stnSink) codes(q *quant.Tensor) error {
	if s.c != nil {
		coding := s.c.coding
		if coding == 0 {
			var err error
			if coding, _, err = stn.Smallest(q); err != nil {
				return err
			}
		}
		if err := s.Begin(s.t.name, s.t.shape, s.c.levels, s.t.cols, s.c.group, coding); err != nil {
			return err
		}
		s.c = nil
	}
	return s.AddRows(q)
}

func (s *stnSink) values(x []float32) error { return s.AddValues(x) }

func (s *stnSink) bytes([]byte) error { return nil } // choose never asks for it

func (s *stnSink) end() error { return s.End() }

type ggufSink struct{ *gguf.Writer }

func (s *ggufSink) begin(*tensor, *choice) error { return nil }

func (s *ggufSink) codes(q *quant.Tensor) error { return s.WriteTernary(q.Codes, q.Scales) }

func (s *ggufSink) values(x []float32) error { return s.WriteFloats(x) }

func (s *ggufSink) bytes(data []byte) error { return s.WriteBytes(data) }

func (s *ggufSink) end() error { return nil }

// dims is a shape the other way round; a single value has one dimension.
func dims(shape []int64) []int64 {
	d := make([]int64, 0, len(shape))
	for i := len(shape) - 1; i >= 0; i-- {
		d = append(d, shape[i])
	}
	if len(d) == 0 {
		d = append(d, 1)
	}
	return d
}

func ggufType(src source, t *tensor, c *choice) gguf.Type {
	switch {
	case c.copied:
		return src.(*ggufSource).Tensors[t.index].Type
	case c.kind == plan.F32:
		return gguf.F32
	case c.kind == plan.F16:
		return gguf.F16
	case c.kind == plan.BF16:
		return gguf.BF16
	case c.coding == stn.Bits2:
		return gguf.TQ2_0
	}
	return gguf.TQ1_0
}

const fileType = "general.file_type" // llama.cpp's: which type most tensors have

// ggufKeys are the input's keys; the type of most tensors is brought up to date where it is told.
func ggufKeys(src source, choices []choice) []gguf.KeyValue {
	var keys []gguf.KeyValue
	for _, k := range src.keys() {
		if t, _ := k.Type(); k.Key == fileType && t == gguf.Uint32 {
			for _, c := range choices {
				if c.kind == plan.Quantized {
					number := uint32(36) // mostly TQ1_0
					if c.coding == stn.Bits2 {
						number = 37
					}
					k = gguf.NewKey(fileType, number)
					break
				}
			}
		}
		keys = append(keys, k)
	}
	return keys
}

// textKeys makes keys of text.
func textKeys(m map[string]string) []gguf.KeyValue {
	var keys []gguf.KeyValue
	for _, k := range sortedKeys(m) {
		keys = append(keys, gguf.NewKey(k, m[k]))
	}
	return keys
}
