// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// TestStreamedIsTheSame writes tensors whole and by chunks, from every format.
func TestStreamedIsTheSame(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	dir := t.TempDir()
	whole, parts := filepath.Join(dir, "whole"), filepath.Join(dir, "parts")
	for _, s := range [][2]int{{7, 27}, {90, 2049}, {300, 100}, {700, 10000}} {
		for _, l := range []quant.Levels{quant.Ternary, quant.Quinary, quant.Sparse} {
			if testing.Short() && s[1] == 10000 {
				continue
			}
			q := random(r, l, s[0], s[1], []int{0, s[1], 10}[r.IntN(3)], 0.4)
			a, b := must(Create(whole, nil))(t), must(Create(parts, nil))(t)
			for _, c := range allCodings {
				if !c.fits(l) {
					continue
				}
				if err := a.Add(c.String(), []int64{int64(s[0] * s[1])}, q, c); err != nil {
					t.Fatal(err)
				}
				if err := b.Begin(c.String(), []int64{int64(s[0] * s[1])}, l, q.Cols, q.Group, c); err != nil {
					t.Fatal(err)
				}
				for first := 0; first < q.Rows; {
					n := 1 + r.IntN(min(50, q.Rows-first))
					chunk := part(q, first, n)
					if f := quant.Format(1 + r.IntN(5)); Coding(f).fits(l) {
						chunk = must(chunk.Convert(nil, f))(t)
					}
					if err := b.AddRows(chunk); err != nil {
						t.Fatal(err)
					}
					first += n
				}
				if err := b.End(); err != nil {
					t.Fatal(err)
				}
			}
			values := make([]float32, 1000)
			for i := range values {
				values[i] = float32(r.NormFloat64())
			}
			if err := errors.Join(a.AddFloats("v", []int64{10, 100}, BF16, values),
				b.BeginFloats("v", []int64{10, 100}, BF16), b.AddValues(values[:333]), b.AddValues(values[333:]), b.End(), a.Close(), b.Close()); err != nil {
				t.Fatal(err)
			}
			x, y := must(os.ReadFile(whole))(t), must(os.ReadFile(parts))(t)
			if !bytes.Equal(x, y) {
				t.Fatalf("%v %v: byte %d of %d and %d differs", s, l, firstDifference(x[:min(len(x), len(y))], y), len(x), len(y))
			}
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 1))
	path := filepath.Join(t.TempDir(), "x.stn")
	w := must(Create(path, nil))(t)
	good := random(r, quant.Ternary, 2, 10, 0, 0.4)
	if err := w.Add("good", nil, good, RANS); err != nil {
		t.Fatal(err)
	}
	spoiled := func(spoil func(q *quant.Tensor)) *quant.Tensor {
		q := part(good, 0, 2)
		q.Codes, q.Scales = slices.Clone(q.Codes), slices.Clone(q.Scales)
		spoil(q)
		return q
	}
	sparse := random(r, quant.Sparse, 1, 64, 0, 0)
	clear(sparse.Codes)
	bad2 := must(good.Convert(nil, quant.Bits2))(t)
	bad2.Packed[1] = 0xff
	bad3 := must(good.Convert(nil, quant.Base3))(t)
	bad3.Packed[1] = 0xff
	for bad3.Packed[1] = 0; base3Valid[bad3.Packed[1]]; bad3.Packed[1]++ {
	}
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"name taken":     {w.Add("good", nil, good, RANS), ErrArgument},
		"no name":        {w.Add("", nil, good, RANS), ErrArgument},
		"not UTF-8":      {w.Add("\xff", nil, good, RANS), ErrArgument},
		"long name":      {w.Add(string(make([]byte, MaxName+1)), nil, good, RANS), ErrLimit},
		"shape":          {w.Add("x", []int64{3, 7}, good, RANS), ErrArgument},
		"larger shape":   {w.Add("x", []int64{3, 10}, good, RANS), ErrArgument},
		"empty shape":    {w.Add("x", []int64{0, 10}, good, RANS), ErrArgument},
		"dimensions":     {w.Add("x", slices.Repeat([]int64{1}, 17), good, RANS), ErrLimit},
		"huge shape":     {w.Add("x", []int64{1 << 40, 1 << 40}, good, RANS), ErrLimit},
		"coding":         {w.Add("x", nil, good, 8), ErrArgument},
		"four5":          {w.Add("x", nil, good, Four5), ErrArgument},
		"code":           {w.Add("x", nil, spoiled(func(q *quant.Tensor) { q.Codes[7] = 2 }), 0), ErrArgument},
		"code -128":      {w.Add("x", nil, spoiled(func(q *quant.Tensor) { q.Codes[7] = -128 }), Planes), ErrArgument},
		"2 bits":         {w.Add("x", nil, bad2, RANS), ErrArgument},
		"base 3":         {w.Add("x", nil, bad3, RANS), ErrArgument},
		"not sparse":     {w.Add("x", nil, sparse, RANS), ErrArgument},
		"NaN":            {w.Add("x", nil, spoiled(func(q *quant.Tensor) { q.Scales[0] = nan }), RANS), ErrArgument},
		"infinity":       {w.Add("x", nil, spoiled(func(q *quant.Tensor) { q.Scales[0] = float32(math.Inf(-1)) }), RANS), ErrArgument},
		"nil":            {w.Add("x", nil, nil, 0), ErrArgument},
		"not a tensor":   {w.Add("x", nil, spoiled(func(q *quant.Tensor) { q.Rows = 3 }), RANS), quant.ErrFormat},
		"float kind":     {w.AddFloats("x", []int64{1}, Quantized, []float32{1}), ErrArgument},
		"float shape":    {w.AddFloats("x", []int64{2}, F16, []float32{1}), ErrArgument},
		"no begin":       {w.AddRows(good), ErrArgument},
		"no begin, too":  {w.AddValues(nil), ErrArgument},
		"no begin, end":  {w.End(), ErrArgument},
		"begin":          {w.Begin("s", []int64{4, 10}, 0, 10, 0, Base3), nil},
		"begin twice":    {w.Begin("t", []int64{4, 10}, 0, 10, 0, Base3), ErrArgument},
		"values":         {w.AddValues([]float32{1}), ErrArgument},
		"other levels":   {w.AddRows(sparse), ErrArgument},
		"rows":           {w.AddRows(good), nil},
		"end too early":  {w.End(), ErrArgument},
		"another scale":  {w.AddRows(spoiled(func(q *quant.Tensor) { q.Scales[0]++ })), ErrArgument},
		"more rows":      {w.AddRows(good), nil},
		"too many rows":  {w.AddRows(good), ErrArgument},
		"end":            {w.End(), nil},
		"close":          {w.Close(), nil},
		"closed":         {w.Close(), os.ErrClosed},
		"add to closed":  {w.Add("y", nil, good, RANS), os.ErrClosed},
		"end of closed":  {w.End(), os.ErrClosed},
		"metadata":       {second(Create(path, map[string]string{"x": "\xff"})), ErrArgument},
		"large metadata": {second(Create(path, map[string]string{"x": string(make([]byte, MaxMetadata))})), ErrLimit},
	} {
		if c.want == nil && c.err != nil || !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	f := must(Open(path))(t)
	defer f.Close()
	if len(f.Tensors()) != 2 || f.Verify() != nil {
		t.Errorf("%+v, %v", f.Tensors(), f.Verify())
	}
	same(t, "after errors", must(f.Tensor("good", nil))(t), good)
}

func second(_ any, err error) error { return err }

// A writer that was not closed leaves nothing.
func TestNothingIsLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.stn")
	w := must(Create(path, nil))(t)
	w.Abort()
	w.Abort()
	if err := w.Close(); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	w = must(Create(path, nil))(t)
	w.Begin("x", []int64{4}, 0, 4, 0, RANS)
	if err := w.Close(); !errors.Is(err, ErrArgument) {
		t.Error(err)
	}
	if entries := must(os.ReadDir(filepath.Dir(path)))(t); len(entries) > 0 {
		t.Errorf("%v left behind", entries)
	}
}
