// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"

	"github.com/setun-compute/setun/quant"
)

// The activations of the feed-forward.
const (
	ReLU2  = "relu2"  // max(h, 0)², as in BitNet b1.58 2B4T (arXiv 2504.12285)
	SwiGLU = "swiglu" // g·sigmoid(g)·u (arXiv 2002.05202), with g and u two halves of one product
)

// Config is the shape of a model. It is comparable, and fits into JSON.
type Config struct {
	Vocab   int `json:"vocab"`   // tokens are 0 … Vocab−1
	Context int `json:"context"` // the most tokens of a sequence
	Layers  int `json:"layers"`
	Heads   int `json:"heads"`  // divides Width
	Width   int `json:"width"`  // values of a token's vector
	Hidden  int `json:"hidden"` // values inside the feed-forward

	Activation string `json:"activation"` // ReLU2, also for "", or SwiGLU

	Ternary             bool       `json:"ternary"`              // linear layers multiply by ternary weights, with a straight-through gradient
	QuantizeActivations bool       `json:"quantize_activations"` // their inputs are int8, a scale a token, after an RMSNorm of their own without gain
	Rule                quant.Rule `json:"rule"`                 // of the scales; 0: quant.AbsMean
	Group               int        `json:"group"`                // values that share a scale, within a row; 0: one scale for a weight; quant.PerRow: one a row

	TieEmbeddings bool `json:"tie_embeddings"` // the head is the token embedding

	// Deviation is that of the first weights of linear layers; 0: 0.02, and 0.06 in a ternary model, whose codes settle better when a step is small beside the weights (docs/training.md). It says nothing of a model that has been trained.
	Deviation float64 `json:"deviation,omitempty"`
}

// maxParameters bounds what New allocates.
const maxParameters = 1 << 34

// withDefaults fills in what is empty.
func (c Config) withDefaults() Config {
	if c.Activation == "" {
		c.Activation = ReLU2
	}
	if c.Rule == 0 {
		c.Rule = quant.AbsMean
	}
	if c.Deviation == 0 {
		if c.Deviation = initialDeviation; c.Ternary {
			c.Deviation = ternaryDeviation
		}
	}
	return c
}

// up is how many values the feed-forward's first product has for a token.
func (c *Config) up() int {
	if c.Activation == SwiGLU {
		return 2 * c.Hidden
	}
	return c.Hidden
}

// Parameters returns how many values the parameters have, and how many of them are weights of linear layers.
func (c Config) Parameters() (all, linear int64) {
	w, h := int64(c.Width), int64(c.Hidden)
	linear = int64(c.Layers) * (4*w*w + int64(c.up())*w + h*w)
	all = linear + (int64(c.Vocab)+int64(c.Context)+2*int64(c.Layers)+1)*w
	if !c.TieEmbeddings {
		all += int64(c.Vocab) * w
	}
	return all, linear
}

// check returns a *ConfigError for the first field that does not fit.
func (c *Config) check() error {
	bad := func(field, detail string, args ...any) error {
		return &ConfigError{Field: field, Detail: fmt.Sprintf(detail, args...)}
	}
	for _, s := range []struct {
		field string
		size  int
	}{{"Vocab", c.Vocab}, {"Context", c.Context}, {"Layers", c.Layers}, {"Heads", c.Heads}, {"Width", c.Width}, {"Hidden", c.Hidden}} {
		if s.size < 1 || s.size > 1<<30 {
			return bad(s.field, "%d is not in 1 … 2^30", s.size)
		}
	}
	w, h := float64(c.Width), float64(c.Hidden)
	switch {
	case c.Width%c.Heads != 0:
		return bad("Heads", "%d do not divide a width of %d", c.Heads, c.Width)
	case c.Activation != ReLU2 && c.Activation != SwiGLU:
		return bad("Activation", "%q is not %q or %q", c.Activation, ReLU2, SwiGLU)
	case c.QuantizeActivations && !c.Ternary:
		return bad("QuantizeActivations", "needs Ternary")
	case c.Rule < quant.AbsMean || c.Rule > quant.Magnitude:
		return bad("Rule", "%v is none for weights", c.Rule)
	case c.Group < quant.PerRow || c.Group > min(c.Width, c.Hidden):
		return bad("Group", "%d is neither 0, quant.PerRow nor at most a row of %d", c.Group, min(c.Width, c.Hidden))
	case !(c.Deviation > 0 && c.Deviation <= 1e3):
		return bad("Deviation", "%v is not in (0, 1000]", c.Deviation)
	case float64(c.Layers)*(4*w*w+3*w*h)+(2*float64(c.Vocab)+float64(c.Context))*w > maxParameters:
		return bad("Width", "more than %d parameters", int64(maxParameters))
	}
	return nil
}
