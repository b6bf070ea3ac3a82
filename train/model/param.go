// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"math"

	"github.com/setun-compute/setun/internal/canon"
)

// Param is one of a model's parameters: Rows×Cols values, row by row. A linear layer's weight has a row for each output.
type Param struct {
	Name        string // as in GGUF files: "blk.0.attn_qkv.weight"
	Rows, Cols  int
	Value, Grad []float32 // Rows*Cols each. Value is the latent weight; whoever changes it calls Model.Refresh afterwards
	Ternary     bool      // a linear layer's weight: quantized in the forward pass when the model is ternary
	Decay       bool      // takes part in weight decay: all but the gains of norms, as in nanoGPT
}

// Standard deviations of the first weights.
const (
	initialDeviation = 0.02 // GPT-2's and nanoGPT's
	ternaryDeviation = 0.06 // of ternary linear layers: of 0.008, 0.02, 0.06, 0.12 and 0.2 the best (docs/training.md)
)

// initialKey keeps the draws of first weights apart from those that others make with the same seed.
const initialKey = 0x6d6f64656c5f7631

// describe lists the parameters in their order, without values.
func describe(c *Config) []*Param {
	var all []*Param
	add := func(rows, cols int, decay, ternary bool, name string, args ...any) {
		all = append(all, &Param{Name: fmt.Sprintf(name, args...), Rows: rows, Cols: cols, Decay: decay, Ternary: ternary})
	}
	add(c.Vocab, c.Width, true, false, "token_embd.weight")
	add(c.Context, c.Width, true, false, "position_embd.weight")
	for l := range c.Layers {
		add(1, c.Width, false, false, "blk.%d.attn_norm.weight", l)
		add(3*c.Width, c.Width, true, true, "blk.%d.attn_qkv.weight", l) // queries, keys, values
		add(c.Width, c.Width, true, true, "blk.%d.attn_output.weight", l)
		add(1, c.Width, false, false, "blk.%d.ffn_norm.weight", l)
		add(c.up(), c.Width, true, true, "blk.%d.ffn_up.weight", l) // SwiGLU: Hidden rows of gates, then Hidden of values
		add(c.Width, c.Hidden, true, true, "blk.%d.ffn_down.weight", l)
	}
	add(1, c.Width, false, false, "output_norm.weight")
	if !c.TieEmbeddings {
		add(c.Vocab, c.Width, true, false, "output.weight")
	}
	return all
}

// parametersOfLayer is how many describe lists for one.
const parametersOfLayer = 6

// initialise draws the first values as nanoGPT does: gains are 1, all else is normal with a deviation of 0.02, in the two weights whose products are added to the residual divided by √(2·layers).
// Value i of the model takes draw i, so that it depends on the seed and on i alone.
func initialise(c *Config, params []*Param, seed uint64) {
	index := uint64(0)
	for i, p := range params {
		deviation := initialDeviation
		if p.Ternary {
			deviation = c.Deviation
		}
		if at := (i - 2) % parametersOfLayer; i >= 2 && i < 2+c.Layers*parametersOfLayer && (at == 2 || at == 5) {
			deviation /= math.Sqrt(2 * float64(c.Layers))
		}
		for j := range p.Value {
			if p.Decay {
				p.Value[j] = float32(deviation * normal(seed^initialKey, index))
			} else {
				p.Value[j] = 1
			}
			index++
		}
	}
}

// normal is draw t of a seed from the standard normal distribution: the quantile of (w + ½)·2^-32, w a draw of 32 bits.
func normal(seed, t uint64) float64 {
	return quantile((float64(canon.Choose(seed, t, 1<<32)) + 0.5) * 0x1p-32)
}

// The two rational functions of quantile, numerator and denominator, highest power first.
var (
	centralP = [...]float64{2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608}
	centralQ = [...]float64{5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867, 5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1}
	tailP    = [...]float64{7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734}
	tailQ    = [...]float64{1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1}
)

// quantile is the inverse of the standard normal distribution function for p in (1e-11, 1 − 1e-11), to about 1e-16 relative: Wichura's algorithm AS 241 (Applied Statistics 37, 1988), which takes + − × ÷, √ and ln alone.
func quantile(p float64) float64 {
	q := p - 0.5
	if math.Abs(q) <= 0.425 {
		r := 0.180625 - float64(q*q)
		return q * polynomial(&centralP, r) / polynomial(&centralQ, r)
	}
	r := math.Sqrt(-canon.Log(min(p, 1-p))) - 1.6
	return math.Copysign(polynomial(&tailP, r)/polynomial(&tailQ, r), q)
}

func polynomial(c *[8]float64, x float64) float64 {
	y := 0.0
	for _, v := range c {
		y = float64(y*x) + v
	}
	return y
}
