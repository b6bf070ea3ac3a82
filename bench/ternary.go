// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

// ternary is one row of activations times a matrix of codes in a format, one scale for all. The peer is ggml's dot product, called row by row; its blocks of 256 weights have a scale each.
func ternary(rows, cols int, f quant.Format, quick bool) *bench {
	n := rows * cols
	b := &bench{op: "ternary-matmul", shape: fmt.Sprintf("%dx%d %v", rows, cols, f), quick: quick, figures: []figure{{figureCall, float64(n), "G weights/s"}}}
	b.contenders = func(e *env) ([]*contender, func(), error) {
		w, err := codes(e.rt, rows, cols, f)
		if err != nil {
			return nil, nil, err
		}
		v := make([]float32, cols)
		for i := range v {
			v[i] = float32(i%17) - 8
		}
		x, err := e.rt.QuantizeActivations(nil, v, cols)
		if err != nil {
			return nil, nil, err
		}
		out := make([]float32, rows)
		again := max(1, 100_000_000/n)
		cs, done, err := e.ours(backends.OpTernary, func(rt *setun.Runtime) (func() (times, error), error) {
			return turns(4_000_000/again, func() error { _, err := rt.TernaryMatMul(out, x, w); return err }), nil
		})
		if err != nil {
			return nil, nil, err
		}
		if e.ggml != nil && cols%256 == 0 {
			for _, kind := range []string{"tq1_0", "tq2_0"} {
				cs = append(cs, e.asks("ggml "+kind, e.ggml, "%s %d %d %d %d", kind, rows, cols, e.threads, again))
			}
		}
		if e.loops != nil {
			c := e.asks("C loop", e.loops, "%s %d %d %d", "read", w.Bytes()/4, e.threads, again) // reads as many bytes
			c.ceiling = true
			cs = append(cs, c)
		}
		return cs, done, nil
	}
	return b
}

// codes are random ones of which 46 % are 0, as those of a Gaussian with the least-squares threshold; or 3:4 sparse ones.
func codes(rt *setun.Runtime, rows, cols int, f quant.Format) (*quant.Tensor, error) {
	q := &quant.Tensor{Rows: rows, Cols: cols, Levels: quant.Ternary, Format: quant.Int8, Codes: make([]int8, rows*cols), Scales: []float32{0.01}}
	r := rand.New(rand.NewPCG(5, 6))
	if f == quant.Four5 {
		q.Levels = quant.Sparse
		v := make([]float32, cols+1024)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		for row := range rows {
			quant.SparseCodes(q.Codes[row*cols:][:cols], v[row%1024:][:cols])
		}
	} else {
		for i := range q.Codes {
			switch u := r.Uint32() % 100; {
			case u < 27:
				q.Codes[i] = 1
			case u < 54:
				q.Codes[i] = -1
			}
		}
	}
	return rt.Convert(&quant.Tensor{Packed: pages[byte](rows * f.RowBytes(cols))}, q, f)
}

// recode unpacks codes to bytes in the first caches, or packs them.
func recode(rows, cols int, from, to quant.Format, quick bool) *bench {
	n := rows * cols
	b := &bench{op: "recode", shape: fmt.Sprintf("%dx%d %v to %v", rows, cols, from, to), quick: quick, figures: []figure{{figureCall, float64(n), "G codes/s"}}}
	b.contenders = func(e *env) ([]*contender, func(), error) {
		w, err := codes(e.rt, rows, cols, from)
		if err != nil {
			return nil, nil, err
		}
		dst := new(quant.Tensor)
		return e.ours(backends.OpRecode, func(rt *setun.Runtime) (func() (times, error), error) {
			return turns(n, func() error { _, err := rt.Convert(dst, w, to); return err }), nil
		})
	}
	return b
}
