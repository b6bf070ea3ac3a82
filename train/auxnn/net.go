// SPDX-License-Identifier: Apache-2.0

package auxnn

import (
	"math"

	"github.com/setun-compute/setun/internal/canon"
)

// The sizes of the network and of what it remembers.
const (
	Inputs     = 6
	Hidden     = 16
	Outputs    = 2
	Parameters = Hidden*(Inputs+1) + Outputs*(Hidden+1) // 146
	window     = 64                                     // decisions that are learned from, and that rates are taken over
)

// Where the parts of the network lie in its parameters: W1 is Hidden×Inputs, W2 Outputs×Hidden, in row order.
const (
	atB1 = Hidden * Inputs
	atW2 = atB1 + Hidden
	atB2 = atW2 + Outputs*Hidden
)

// Adam's constants; the rate is high because there are few decisions.
const (
	adamRate  = 1e-2
	adamBeta1 = 0.9
	adamBeta2 = 0.999
	adamEps   = 1e-8
	pull      = 1e-3 // on o²: keeps outputs from where tanh is flat
	huberEdge = 1    // of the error tanh o − target, beyond which the loss is linear
)

// net is the network with its moments.
type net struct {
	w, m, v [Parameters]float64
	t       int // Adam steps taken
}

// sample is a decision with what its outcome taught.
type sample struct {
	x      [Inputs]float64
	target [Outputs]float64
}

// start draws the first layer uniformly within ±1/√Inputs, as PyTorch's Linear does; the last layer stays 0.
func (n *net) start(seed uint64) {
	const steps = 1 << 52
	bound := 1 / math.Sqrt(Inputs)
	for i := range atW2 {
		u := float64(canon.Choose(seed^0x617578_6e6e, uint64(i), steps)) / steps
		n.w[i] = bound * (float64(2*u) - 1)
	}
}

// forward returns the hidden layer and the outputs before tanh.
func (n *net) forward(x *[Inputs]float64) (h [Hidden]float64, o [Outputs]float64) {
	for j := range h {
		s := n.w[atB1+j]
		for i, v := range x {
			s += float64(n.w[j*Inputs+i] * v)
		}
		h[j] = tanh(s)
	}
	for k := range o {
		s := n.w[atB2+k]
		for j, v := range h {
			s += float64(n.w[atW2+k*Hidden+j] * v)
		}
		o[k] = s
	}
	return h, o
}

// gradient adds the gradient of one sample's loss to g and returns the loss.
func (n *net) gradient(g *[Parameters]float64, s *sample) (loss float64) {
	h, o := n.forward(&s.x)
	var dh [Hidden]float64
	for k, v := range o {
		y := tanh(v)
		e := y - s.target[k]
		slope := max(-huberEdge, min(huberEdge, e))
		if e == slope {
			loss += float64(0.5 * float64(e*e))
		} else {
			loss += float64(huberEdge * (math.Abs(e) - 0.5*huberEdge))
		}
		loss += float64(pull * float64(v*v))
		d := float64(slope*(1-float64(y*y))) + float64(2*pull*v)
		g[atB2+k] += d
		for j := range h {
			g[atW2+k*Hidden+j] += float64(d * h[j])
			dh[j] += float64(d * n.w[atW2+k*Hidden+j])
		}
	}
	for j := range dh {
		d := float64(dh[j] * (1 - float64(h[j]*h[j])))
		g[atB1+j] += d
		for i, v := range s.x {
			g[j*Inputs+i] += float64(d * v)
		}
	}
	return loss
}

// learn takes one Adam step on the mean loss over the samples, in their order, and returns that loss.
func (n *net) learn(samples []sample) float64 {
	var g [Parameters]float64
	loss := 0.0
	for i := range samples {
		loss += n.gradient(&g, &samples[i])
	}
	n.t++
	count := float64(len(samples))
	unbias1, unbias2 := 1/(1-power(adamBeta1, n.t)), 1/(1-power(adamBeta2, n.t))
	for i := range g {
		d := g[i] / count
		n.m[i] = float64(adamBeta1*n.m[i]) + float64((1-adamBeta1)*d)
		n.v[i] = float64(adamBeta2*n.v[i]) + float64((1-adamBeta2)*float64(d*d))
		n.w[i] -= float64(adamRate*float64(n.m[i]*unbias1)) / (math.Sqrt(float64(n.v[i]*unbias2)) + adamEps)
	}
	return loss / count
}

// power returns b^t by squaring.
func power(b float64, t int) float64 {
	r := 1.0
	for ; t > 0; t >>= 1 {
		if t&1 == 1 {
			r = float64(r * b)
		}
		b = float64(b * b)
	}
	return r
}

// tanh is (1−e)/(1+e), e = exp(−2|x|), with the sign of x: odd to the bit, within some 2^-52 of the true value (not relative to it: near 0 a controller needs no more).
func tanh(x float64) float64 {
	e := canon.Exp(-2 * math.Abs(x))
	return math.Copysign((1-e)/(1+e), x)
}
