// SPDX-License-Identifier: Apache-2.0

package stn_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/stn"
)

// A file of one ternary matrix and one vector, written and read.
func Example() {
	dir, err := os.MkdirTemp("", "stn")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "model.stn")

	q := &quant.Tensor{Rows: 2, Cols: 4, Levels: quant.Ternary, Format: quant.Int8, Group: 4, Codes: []int8{1, 0, -1, 0, 0, 0, 1, 1}, Scales: []float32{0.5, 0.25}}
	w, err := stn.Create(path, map[string]string{"model": "tiny"})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Abort() // does nothing after Close
	if err := w.Add("w", []int64{2, 4}, q, stn.RANS); err != nil {
		log.Fatal(err)
	}
	if err := w.AddFloats("norm", []int64{4}, stn.F16, []float32{1, 1, 0.5, 1}); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}

	f, err := stn.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	for _, t := range f.Tensors() {
		fmt.Println(t.Name, t.Shape, t.Kind)
	}
	row, err := f.Rows("w", 1, 1, nil)
	if err != nil {
		log.Fatal(err)
	}
	values, err := row.Dequantize(nil)
	fmt.Println(values, err)
	// Output:
	// w [2 4] quantized
	// norm [4] f16
	// [0 0 0.25 0.25] <nil>
}
