// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/setun-compute/setun/internal/npy"
	"github.com/setun-compute/setun/quant/gguf"
	"github.com/setun-compute/setun/quant/safetensors"
)

// tensor is one of the input, as a matrix.
type tensor struct {
	name       string
	shape      []int64 // row-major, the last runs fastest
	rows, cols int     // rows·cols values
	fold       int     // rows of the file that make up one row: those of a convolution are too short for a scale each

	typ    string // as the file names it
	read   bool   // its values can be read as floats
	size   int64  // bytes in the file
	path   string
	offset int64 // in path
	index  int   // in the source
}

func (t *tensor) values() int64 { return int64(t.rows) * int64(t.cols) }

// fail makes an error that names file, tensor and place.
func (t *tensor) fail(offset int64, format string, args ...any) error {
	return fmt.Errorf("%s: tensor %q: byte %d: %w", t.path, t.name, offset, fmt.Errorf(format, args...))
}

// at returns the place in the file of a value.
func (t *tensor) at(value int64) int64 {
	if n := t.values(); n > 0 && t.size%n == 0 {
		return t.offset + value*(t.size/n)
	}
	return t.offset // of blocks
}

// minRow is the least length of a row that a scale may be spent on.
const minRow = 64

// newTensor makes a matrix of a shape. A row is the last dimension, or the last ones where that is short.
func newTensor(name string, shape []int64) tensor {
	t := tensor{name: name, shape: shape, rows: 1, cols: 1, fold: 1}
	for i := len(shape) - 1; i >= 0; i-- {
		switch n := int(shape[i]); {
		case i == len(shape)-1:
			t.cols = n
		case t.rows == 1 && t.cols < minRow && i > 0:
			t.cols *= n
			t.fold *= n
		default:
			t.rows *= n
		}
	}
	return t
}

// source is an input file.
type source interface {
	tensors() []tensor
	// rows reads n rows of the file from row first on, of tensor index; dst is used when it is large enough.
	rows(index, first, n int, dst []float32) ([]float32, error)
	// metadata is text, and keys is what a .gguf file takes.
	metadata() map[string]string
	keys() []gguf.KeyValue
	// bytes returns a tensor as it lies in the file, which a .gguf file can take over; nil for other files.
	bytes(index int) ([]byte, error)
	Close() error
}

func openSource(ctx context.Context, path string) (source, error) {
	switch ext(path) {
	case ".safetensors", ".json":
		open := safetensors.Open
		if ext(path) == ".json" {
			open = safetensors.OpenIndex
		}
		f, err := open(path)
		if err != nil {
			return nil, err
		}
		return &safetensorsSource{f}, nil
	case ".gguf":
		f, err := gguf.Open(path)
		if err != nil {
			return nil, err
		}
		return &ggufSource{f, path}, nil
	}
	f, err := npy.OpenFloats(ctx, path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &npySource{f, path, info.Size()}, nil
}

type safetensorsSource struct{ *safetensors.File }

func (s *safetensorsSource) tensors() []tensor {
	var list []tensor
	for i, info := range s.Tensors {
		shape := make([]int64, len(info.Shape))
		for j, n := range info.Shape {
			shape[j] = int64(n)
		}
		t := newTensor(info.Name, shape)
		t.typ, t.read = info.Type, info.Type == "F32" || info.Type == "F16" || info.Type == "BF16"
		t.size, t.path, t.offset, t.index = info.Size, info.Path, info.Offset, i
		list = append(list, t)
	}
	return list
}

func (s *safetensorsSource) rows(i, first, n int, dst []float32) ([]float32, error) {
	return s.Rows(s.Tensors[i].Name, first, n, dst)
}

func (s *safetensorsSource) metadata() map[string]string { return s.Metadata }

func (s *safetensorsSource) keys() []gguf.KeyValue { return textKeys(s.Metadata) }

func (s *safetensorsSource) bytes(int) ([]byte, error) { return nil, nil }

type ggufSource struct {
	*gguf.File
	path string
}

func (s *ggufSource) tensors() []tensor {
	var list []tensor
	for i, info := range s.Tensors {
		shape := make([]int64, len(info.Dims))
		for j, n := range info.Dims {
			shape[len(shape)-1-j] = n
		}
		t := newTensor(info.Name, shape)
		t.typ, t.read, t.size, t.path, t.offset, t.index = info.Type.String(), info.Type.Readable(), info.Size, s.path, info.Offset, i
		list = append(list, t)
	}
	return list
}

func (s *ggufSource) rows(i, first, n int, dst []float32) ([]float32, error) {
	return s.Rows(i, first, n, dst)
}

// metadata has the keys that are short; arrays, such as vocabularies, are left out.
func (s *ggufSource) metadata() map[string]string {
	m := map[string]string{}
	for _, k := range s.Keys {
		if t, _ := k.Type(); t != gguf.Array {
			if text := fmt.Sprint(k.Value()); len(text) <= 4096 {
				m[k.Key] = text
			}
		}
	}
	return m
}

func (s *ggufSource) keys() []gguf.KeyValue { return s.Keys }

func (s *ggufSource) bytes(i int) ([]byte, error) { return s.Bytes(i) }

// npySource is a file of one tensor, which has the file's name.
type npySource struct {
	*npy.Floats
	path string
	size int64
}

func (s *npySource) tensors() []tensor {
	shape := make([]int64, len(s.Shape))
	for i, n := range s.Shape {
		shape[i] = int64(n)
	}
	t := newTensor(strings.TrimSuffix(filepath.Base(s.path), filepath.Ext(s.path)), shape)
	t.typ, t.read, t.size, t.path, t.offset = fmt.Sprintf("F%d", 8*s.Size), true, int64(s.Count)*int64(s.Size), s.path, int64(s.Offset)
	return []tensor{t}
}

func (s *npySource) rows(_, first, n int, _ []float32) ([]float32, error) {
	cols := 1
	if d := len(s.Shape); d > 0 {
		cols = s.Shape[d-1]
	}
	return s.Values[first*cols:][:n*cols], nil
}

func (s *npySource) metadata() map[string]string { return nil }

func (s *npySource) keys() []gguf.KeyValue { return nil }

func (s *npySource) bytes(int) ([]byte, error) { return nil, nil }

// matrixRows reads rows of the matrix, and refuses what is not a number; infinities too where codes are to be made.
func matrixRows(s source, t *tensor, first, n int, dst []float32, codes bool) ([]float32, error) {
	x, err := s.rows(t.index, first*t.fold, n*t.fold, dst)
	if err != nil {
		return nil, err
	}
	if bad := notFinite(x, codes); bad >= 0 {
		i := int64(first)*int64(t.cols) + int64(bad)
		return nil, t.fail(t.at(i), "row %d, column %d = %v: not a finite number", first+bad/t.cols, bad%t.cols, x[bad])
	}
	return x, nil
}

// notFinite returns the index of the first NaN, or of the first infinity too, or −1.
func notFinite(x []float32, infinities bool) int {
	const block = 1 << 12
	for i := 0; i < len(x); i += block {
		part := x[i:min(i+block, len(x))]
		most := uint32(0)
		for _, v := range part {
			most = max(most, math.Float32bits(v)&^(1<<31))
		}
		if most < 0x7f800000 {
			continue
		}
		for j, v := range part {
			if v != v || infinities && v-v != 0 {
				return i + j
			}
		}
	}
	return -1
}
