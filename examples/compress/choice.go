// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/gguf"
	"github.com/setun-compute/setun/quant/plan"
	"github.com/setun-compute/setun/quant/stn"
)

// wideNames are the tensors that stay floating-point unless -quantize names them: norms, biases, embeddings and heads, as transformers, llama.cpp and nanoGPT name them.
func wideNames() patterns {
	return patterns{"*norm*", "*ln_*", "*.bias", "*embed*", "*embd*", "*wte*", "*wpe*", "*lm_head*", "output.weight", "*classifier*"}
}

// choice is how a tensor is written.
type choice struct {
	kind   plan.Kind // Quantized, F16, BF16 or F32
	copied bool      // the bytes as they lie in the input, of .gguf to .gguf
	why    string    // it is not quantized; empty where it is

	levels quant.Levels
	rule   quant.Rule
	group  int        // 0: one scale for all; else values
	coding stn.Coding // 0: the smallest
}

// choose decides each tensor without a budget: kept, or as the flags say.
func choose(o *options, src source, list []tensor) ([]choice, error) {
	choices := make([]choice, len(list))
	for i := range list {
		t := &list[i]
		if t.values() == 0 {
			return nil, t.fail(t.offset, "its shape is %v: it has no values; leave it out with -drop %q", t.shape, t.name)
		}
		why := wide(o, t)
		if !t.read {
			raw, err := src.bytes(t.index)
			if err != nil {
				return nil, err
			}
			if raw == nil || o.ours() {
				return nil, t.fail(t.offset, "its type is %s, which is not read as floats; leave it out with -drop %q", t.typ, t.name)
			}
			choices[i] = choice{copied: true, why: "is " + t.typ}
			continue
		}
		if why == "" {
			choices[i] = o.codes(t)
			continue
		}
		c, err := keep(o, src, t)
		if err != nil {
			return nil, err
		}
		c.why = why
		choices[i] = c
	}
	return choices, nil
}

// wide says why a tensor stays floating-point; it is empty for one that does not.
func wide(o *options, t *tensor) string {
	if !o.ours() && t.cols%gguf.Block != 0 {
		return fmt.Sprintf("rows of %d", t.cols) // not a multiple of 256
	}
	if !o.ours() && t.fold > 1 {
		return "more than 2-D"
	}
	if _, ok := o.quantize.match(t.name); ok {
		return ""
	}
	if s, ok := o.keep.match(t.name); ok {
		return "-keep " + s
	}
	if t.rows == 1 {
		return "one row"
	}
	if s, ok := wideNames().match(t.name); ok {
		return s
	}
	return ""
}

// codes is a tensor as the flags say.
func (o *options) codes(t *tensor) choice {
	c := choice{kind: plan.Quantized, levels: o.levels, rule: o.rule, group: o.group, coding: o.coding}
	if (t.typ == "TQ1_0" || t.typ == "TQ2_0") && !o.given["group"] && !o.given["rule"] && o.levels == quant.Ternary {
		c.group, c.rule = gguf.Block, quant.LeastSquares // it has codes already, which this finds again
	}
	if c.group == quant.PerRow || c.group > t.cols {
		c.group = t.cols
	}
	return c
}

// keep finds the floating-point type of a tensor that is not quantized: the 16-bit types stay, vectors are F32, and matrices F16 where that holds all values.
func keep(o *options, src source, t *tensor) (choice, error) {
	raw, err := src.bytes(t.index)
	switch {
	case err != nil:
		return choice{}, err
	case raw != nil && !o.ours() && (t.typ != "F32" || t.rows == 1):
		return choice{copied: true}, nil
	case t.rows == 1 && (!o.ours() || t.typ[:1] == "F" && t.typ != "F16"):
		return choice{kind: plan.F32}, nil
	case t.typ == "BF16" && o.ours():
		return choice{kind: plan.BF16}, nil
	case t.typ == "F16":
		return choice{kind: plan.F16}, nil
	}
	var x []float32
	most := float32(0)
	for first := 0; first < t.rows; first += t.chunk() {
		if x, err = matrixRows(src, t, first, min(t.chunk(), t.rows-first), x, false); err != nil {
			return choice{}, err
		}
		for _, v := range x {
			if v-v == 0 { // F16 has infinities
				most = max(most, v, -v)
			}
		}
	}
	if most >= 65520 {
		return choice{kind: plan.F32}, nil
	}
	return choice{kind: plan.F16}, nil
}

// chunk is how many rows are worked on at a time.
func (t *tensor) chunk() int {
	const values = 1 << 22 // 16 MiB
	return max(1, values/t.cols)
}
