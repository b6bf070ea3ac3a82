// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"math"

	"github.com/setun-compute/setun/internal/floats"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/gguf"
	"github.com/setun-compute/setun/quant/plan"
	"github.com/setun-compute/setun/quant/stn"
)

// verified counts what was compared.
type verified struct {
	Codes    int64   `json:"codes"`
	Scales   int64   `json:"scales"`
	Values   int64   `json:"values"`    // of tensors without codes, those that were copied among them
	MaxError float64 `json:"max_error"` // |x − q|, of all tensors
	Worst    string  `json:"worst"`     // the tensor that has it
}

// reader reads what was written.
type reader interface {
	// codes returns rows of tensor i as codes and scales.
	codes(i, first, n int) (*quant.Tensor, error)
	// values returns rows of a floating-point tensor.
	values(i, first, n int) ([]float32, error)
	// bytes returns tensor i as it lies in the file.
	bytes(i int) ([]byte, error)
	Close() error
}

// verify reads the file, makes all codes again and compares them with those in the file, and so scales and values.
func (j *job) verify(ctx context.Context) (*verified, error) {
	r, err := j.reader()
	if err != nil {
		return nil, j.rename(err)
	}
	defer r.Close()
	total := int64(0)
	for i := range j.list {
		total += j.list[i].size
	}
	j.e.p.start("verifying", total)
	v := new(verified)
	for i := range j.list {
		t, c := &j.list[i], &j.choices[i]
		worst := 0.0
		switch {
		case c.copied:
			v.Values += t.values()
			err = j.copied(r, i)
			j.e.p.tensor(t.name, t.size, t.size)
		case c.kind == plan.Quantized:
			err = j.e.each(ctx, t, *c, func(first int, q *quant.Tensor, x []float32) error {
				got, err := r.codes(i, first, q.Rows)
				if err != nil {
					return err
				}
				v.Codes += int64(len(q.Codes))
				if q.Group > 0 || first == 0 {
					v.Scales += int64(len(q.Scales))
				}
				e, err := compare(t, first, q, got, x)
				worst = max(worst, e)
				return err
			})
		default:
			err = j.e.chunks(ctx, t, false, func(first int, x []float32) error {
				got, err := r.values(i, first, len(x)/t.cols)
				if err != nil {
					return err
				}
				v.Values += int64(len(x))
				for k, want := range x {
					if want = rounded(c.kind, want); math.Float32bits(got[k]) != math.Float32bits(want) {
						return fmt.Errorf("tensor %q: row %d, column %d is %v in the file, not %v", t.name, first+k/t.cols, k%t.cols, got[k], want)
					}
					if e := math.Abs(float64(x[k]) - float64(want)); e == e {
						worst = max(worst, e)
					}
				}
				return nil
			})
		}
		if err != nil {
			return nil, j.rename(fmt.Errorf("verify %s: %w", j.o.out, err))
		}
		if worst > v.MaxError || v.Worst == "" {
			v.MaxError, v.Worst = worst, t.name
		}
	}
	return v, nil
}

// copied holds a tensor that was copied against the input, byte by byte.
func (j *job) copied(r reader, i int) error {
	t := &j.list[i]
	want, err := j.src.bytes(t.index)
	if err != nil {
		return err
	}
	got, err := r.bytes(i)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("tensor %q: its %d bytes are not those of the input", t.name, len(got))
	}
	return err
}

// compare holds codes and scales of a file against those that were computed, and returns the largest |x − q| of the file's.
func compare(t *tensor, first int, want, got *quant.Tensor, x []float32) (float64, error) {
	codes := make([]int8, want.Cols)
	for r := range want.Rows {
		got.UnpackRow(codes, r)
		for k, c := range codes {
			if c != want.Codes[r*want.Cols+k] {
				return 0, fmt.Errorf("tensor %q: the code of row %d, column %d is %d in the file, not %d", t.name, first+r, k, c, want.Codes[r*want.Cols+k])
			}
		}
	}
	for k := range want.Scales {
		if math.Float32bits(got.Scales[k]) != math.Float32bits(want.Scales[k]) {
			return 0, fmt.Errorf("tensor %q: scale %d from row %d on is %v in the file, not %v", t.name, k, first, got.Scales[k], want.Scales[k])
		}
	}
	q, err := got.Dequantize(nil)
	if err != nil {
		return 0, err
	}
	worst := 0.0
	for k, v := range q {
		worst = max(worst, math.Abs(float64(x[k])-float64(v)))
	}
	return worst, nil
}

func rounded(k plan.Kind, v float32) float32 {
	switch k {
	case plan.F16:
		return floats.Half(floats.ToHalf(v))
	case plan.BF16:
		return floats.BFloat(floats.ToBFloat(v))
	}
	return v
}

func (j *job) reader() (reader, error) {
	if !j.o.ours() {
		f, err := gguf.Open(j.out.file())
		if err != nil {
			return nil, err
		}
		return &ggufReader{File: f}, nil
	}
	f, err := stn.Open(j.out.file())
	if err != nil {
		return nil, err
	}
	if err := f.Verify(); err != nil {
		f.Close()
		return nil, err
	}
	return &stnReader{File: f, infos: f.Tensors(), held: -1}, nil
}

type stnReader struct {
	*stn.File
	infos []stn.Info
	q     *quant.Tensor
	x     []float32 // all of the floating-point tensor held
	held  int
}

func (r *stnReader) codes(i, first, n int) (*quant.Tensor, error) {
	var err error
	r.q, err = r.Rows(r.infos[i].Name, first, n, r.q)
	return r.q, err
}

func (r *stnReader) values(i, first, n int) ([]float32, error) {
	if r.held != i {
		var err error
		if r.x, err = r.Floats(r.infos[i].Name, r.x); err != nil {
			return nil, err
		}
		r.held = i
	}
	cols := newTensor("", r.infos[i].Shape).cols
	return r.x[first*cols:][:n*cols], nil
}

func (r *stnReader) bytes(int) ([]byte, error) { return nil, nil } // choose never asks for it

type ggufReader struct {
	*gguf.File
	q quant.Tensor
	x []float32
}

func (r *ggufReader) codes(i, first, n int) (*quant.Tensor, error) {
	codes, scales, err := r.TernaryRows(i, first, n, r.q.Codes, r.q.Scales)
	if err != nil {
		return nil, err
	}
	r.q = quant.Tensor{Rows: n, Cols: r.Tensors[i].Cols(), Levels: quant.Ternary, Format: quant.Int8, Group: gguf.Block, Codes: codes, Scales: scales}
	return &r.q, nil
}

func (r *ggufReader) values(i, first, n int) ([]float32, error) {
	shape := make([]int64, 0, 4)
	for k := len(r.Tensors[i].Dims) - 1; k >= 0; k-- {
		shape = append(shape, r.Tensors[i].Dims[k])
	}
	fold := newTensor("", shape).fold
	var err error
	r.x, err = r.File.Rows(i, first*fold, n*fold, r.x)
	return r.x, err
}

func (r *ggufReader) bytes(i int) ([]byte, error) { return r.Bytes(i) }
