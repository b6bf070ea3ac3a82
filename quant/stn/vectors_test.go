// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/setun-compute/setun/quant"
)

var update = flag.Bool("update", false, "write the files of testdata again")

// simple returns a tensor whose code i is i³ mod 11 mod levels, less 1 or 2, and whose scales are 1, 2, 3, …
func simple(l quant.Levels, rows, cols, group int) *quant.Tensor {
	q := new(quant.Tensor)
	q.Resize(rows, quant.Options{Levels: l, Format: quant.Int8, Cols: cols, Group: group})
	for i := range q.Codes {
		q.Codes[i] = int8(int64(i)*int64(i)*int64(i)%11%int64(l)) - int8(l/2)
	}
	for i := range q.Scales {
		q.Scales[i] = float32(i + 1)
	}
	return q
}

// simpleSparse: four rows of eight codes, in two places each.
func simpleSparse() *quant.Tensor {
	q := &quant.Tensor{Rows: 4, Cols: 8, Levels: quant.Sparse, Format: quant.Int8, Scales: []float32{0.1}}
	for _, row := range []string{"0+++-0-+", "-0++0--+", "+-+0--0+", "-++-+00-"} {
		codes := make([]int8, 8)
		for i, c := range []byte(row) { // as they are read: code 2·p of place 0, code 2·p + 1 of place 1
			codes[i] = int8(strings.IndexByte("-0+", c)) - 1
		}
		q.Codes = append(q.Codes, codes...)
	}
	return q
}

// vectors are the files of testdata.
func vectors() map[string]func(w *Writer) error {
	return map[string]func(w *Writer) error{
		"empty.stn": func(w *Writer) error { return nil },
		"small.stn": func(w *Writer) error {
			return errors.Join(w.Add("w", []int64{8, 2, 4}, simple(quant.Ternary, 8, 8, 8), RANS), w.AddFloats("n", []int64{3}, BF16, []float32{1, -2, 0.5}))
		},
		"codings.stn": func(w *Writer) error {
			var err error
			for _, c := range allCodings[:RANS] { // those of later have files of their own
				if c.fits(quant.Ternary) {
					err = errors.Join(err, w.Add("ternary "+c.String(), nil, simple(quant.Ternary, 5, 71, 71), c))
				}
				if c.fits(quant.Quinary) {
					err = errors.Join(err, w.Add("quinary "+c.String(), nil, simple(quant.Quinary, 5, 71, 10), c))
				}
				if c.fits(quant.Sparse) {
					err = errors.Join(err, w.Add("sparse "+c.String(), nil, simpleSparse(), c))
				}
			}
			return errors.Join(err, w.AddFloats("f32", []int64{1, 3}, F32, []float32{1, -2, 0.1}), w.AddFloats("f16", []int64{3, 1}, F16, []float32{1, -2, 0.1}))
		},
		"blocks.stn": func(w *Writer) error { // two blocks, a table for a model
			q := simple(quant.Ternary, 80, 2105, 0)
			return errors.Join(w.Add("rans", nil, q, RANS), w.Add("planes", nil, q, Planes))
		},
		"classes.stn": func(w *Writer) error { // one block with a group of three rows; two blocks
			return errors.Join(w.Add("small", nil, classed(23, 61), Classes), w.Add("blocks", nil, classed(83, 2105), Classes))
		},
	}
}

// TestVectors: the writer makes the files of testdata, byte for byte, and the reader gets back what went in.
func TestVectors(t *testing.T) {
	for name, add := range vectors() {
		f := write(t, map[string]string{"made by": "setun"}, add)
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, f.data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(f.data, want) {
			t.Errorf("%s: byte %d differs", name, firstDifference(f.data[:min(len(f.data), len(want))], want))
		}
		read := must(Open(golden))(t)
		if err := readAll(read); err != nil {
			t.Error(err)
		}
		for _, i := range read.Tensors() {
			switch {
			case i.Kind != Quantized:
			case i.Levels == quant.Sparse:
				same(t, i.Name, must(read.Tensor(i.Name, nil))(t), simpleSparse())
			case i.Coding == Classes:
				same(t, i.Name, must(read.Tensor(i.Name, nil))(t), classed(i.Rows, i.Cols))
			default:
				same(t, i.Name, must(read.Tensor(i.Name, nil))(t), simple(i.Levels, i.Rows, i.Cols, i.Group))
			}
		}
		read.Close()
	}
}

// TestSpecificationHasTheVector: the hex dump in the specification is small.stn.
func TestSpecificationHasTheVector(t *testing.T) {
	text := string(must(os.ReadFile("../../docs/format-stn.md"))(t))
	dump := hex.Dump(must(os.ReadFile("testdata/small.stn"))(t))
	if !strings.Contains(strings.ReplaceAll(text, "\r\n", "\n"), dump) {
		t.Errorf("docs/format-stn.md does not hold this dump of testdata/small.stn:\n%s", dump)
	}
}
