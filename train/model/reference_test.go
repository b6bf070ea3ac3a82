// SPDX-License-Identifier: Apache-2.0

package model

import (
	"math"
)

// reference is the same network in float64, written as plainly as can be, one sequence and one number at a time: what the model is compared with.
type reference struct {
	c Config
	w map[string][]float64 // the weights that multiply
	// frozen are what quantization added to the inputs of linear layers: recorded at the base point and constants afterwards, so that differences of the loss have the straight-through gradient.
	frozen [][]float64
	record bool
	at     int
	mix    map[string]float64 // λ by weight
}

func newReference(m *Model) *reference {
	r := &reference{c: m.c, w: map[string][]float64{}, mix: map[string]float64{}}
	m.fresh()
	for _, p := range m.params {
		r.w[p.Name] = widen(p.Value)
	}
	for _, l := range m.linears {
		r.w[l.w.Name], r.mix[l.w.Name] = widen(l.weight), float64(l.mix)
	}
	if m.c.TieEmbeddings {
		r.w["output.weight"] = r.w["token_embd.weight"]
	}
	return r
}

func widen(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func refNorm(x, gain []float64) []float64 {
	s := 0.0
	for _, v := range x {
		s += v * v
	}
	r := 1 / math.Sqrt(s/float64(len(x))+normEpsilon)
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v * r
		if gain != nil {
			y[i] *= gain[i]
		}
	}
	return y
}

func (r *reference) product(w, x []float64) []float64 {
	y := make([]float64, len(w)/len(x))
	for i := range y {
		for j, v := range x {
			y[i] += w[i*len(x)+j] * v
		}
	}
	return y
}

func (r *reference) linear(name string, x []float64) []float64 {
	if r.c.QuantizeActivations {
		x = refNorm(x, nil)
		if r.record {
			most := 0.0
			for _, v := range x {
				most = max(most, math.Abs(v))
			}
			change := make([]float64, len(x))
			for i, v := range x {
				change[i] = r.mix[name] * (math.RoundToEven(v*127/most)*most/127 - v)
			}
			r.frozen = append(r.frozen, change)
		}
		for i, v := range r.frozen[r.at] {
			x[i] += v
		}
		r.at++
	}
	return r.product(r.w[name], x)
}

func refSoftmax(x []float64) []float64 {
	top := x[0]
	for _, v := range x {
		top = max(top, v)
	}
	p, sum := make([]float64, len(x)), 0.0
	for i, v := range x {
		p[i] = math.Exp(v - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

func refActivation(c *Config, h []float64) []float64 {
	y := make([]float64, c.Hidden)
	for i := range y {
		if c.Activation == SwiGLU {
			y[i] = h[i] / (1 + math.Exp(-h[i])) * h[c.Hidden+i]
		} else if h[i] > 0 {
			y[i] = h[i] * h[i]
		}
	}
	return y
}

// logits are those of one sequence, a row a token.
func (r *reference) logits(tokens []int32) [][]float64 {
	c, d := r.c.Width, r.c.Width/r.c.Heads
	x := make([][]float64, len(tokens))
	for t, token := range tokens {
		x[t] = make([]float64, c)
		for i := range x[t] {
			x[t][i] = r.w["token_embd.weight"][int(token)*c+i] + r.w["position_embd.weight"][t*c+i]
		}
	}
	for l := range r.c.Layers {
		name := func(s string) string { return "blk." + string(rune('0'+l)) + "." + s + ".weight" }
		qkv := make([][]float64, len(x))
		for t := range x {
			qkv[t] = r.linear(name("attn_qkv"), refNorm(x[t], r.w[name("attn_norm")]))
		}
		for t := range x {
			y := make([]float64, c)
			for h := range r.c.Heads {
				s := make([]float64, t+1)
				for u := range s {
					for i := range d {
						s[u] += qkv[t][h*d+i] * qkv[u][c+h*d+i]
					}
					s[u] /= math.Sqrt(float64(d))
				}
				for u, p := range refSoftmax(s) {
					for i := range d {
						y[h*d+i] += p * qkv[u][2*c+h*d+i]
					}
				}
			}
			o := r.linear(name("attn_output"), y)
			mid := make([]float64, c)
			for i := range mid {
				mid[i] = x[t][i] + o[i]
			}
			f := r.linear(name("ffn_down"), refActivation(&r.c, r.linear(name("ffn_up"), refNorm(mid, r.w[name("ffn_norm")]))))
			x[t] = make([]float64, c)
			for i := range mid {
				x[t][i] = mid[i] + f[i]
			}
		}
	}
	y := make([][]float64, len(x))
	for t := range x {
		y[t] = r.product(r.w["output.weight"], refNorm(x[t], r.w["output_norm.weight"]))
	}
	return y
}

func (r *reference) loss(tokens, targets []int32, batch, length int) float64 {
	r.at = 0
	sum := 0.0
	for b := range batch {
		for t, l := range r.logits(tokens[b*length:][:length]) {
			sum -= math.Log(refSoftmax(l)[targets[b*length+t]])
		}
	}
	return sum / float64(batch*length)
}
