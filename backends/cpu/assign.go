// SPDX-License-Identifier: Apache-2.0

package cpu

import (
	"math"

	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/internal/lloyd"
)

// The label of a row is the argmax of canonical scores, float32 chains that pure Go can only emulate, at 2 GFLOP/s. Only
// the argmax is wanted, so the scores are first computed in plain float64, and a proven bound on the chain's rounding
// tells which centroids can be the winner. Nearly always that is one; otherwise the chains of the candidates decide.
//
// Bound: a chain of d fused steps from bias b differs from the exact score by at most γ·(|b| + Σ|x||c|) + d·2^-150, where
// γ = d·u/(1 − d·u), u = 2^-24 (Higham, Accuracy and Stability, section 3.1; the last term is underflow), and Σ|x||c| <= ‖x‖·‖c‖.
// The float64 score adds less than d·2^-52 of the same magnitude. slack covers both and the rounding of the bound itself.
const (
	slack      = 1.01 * 0x1p-24
	maxScreen  = 1 << 16 // the bound is proven with d·u < 0.004; longer rows take the chains at once
	panelWidth = 8       // centroids a panel interleaves: eight independent sums hide the latency of one
)

// packed holds the centroids in float64 panels, element p of centroid l of a panel at p*panelWidth + l. Missing
// centroids of the last panel are zeros with a bias of −∞: they never win.
type packed struct {
	panels    []float64
	bias      []float64
	longest   float64 // max ‖c‖
	deepest   float64 // max |bias|
	certainty float64 // γ
}

func pack(s *lloyd.Step) packed {
	n := (s.K-1)/panelWidth + 1
	c := packed{panels: make([]float64, n*s.D*panelWidth), bias: make([]float64, n*panelWidth)}
	for j := range c.bias {
		if j >= s.K {
			c.bias[j] = math.Inf(-1)
			continue
		}
		c.bias[j] = float64(s.Bias[j])
		c.deepest = max(c.deepest, -c.bias[j])
		panel := c.panels[j/panelWidth*s.D*panelWidth:]
		square := 0.0
		for p, v := range s.Centroids[j*s.D:][:s.D] {
			panel[p*panelWidth+j%panelWidth] = float64(v)
			square += float64(v) * float64(v)
		}
		c.longest = max(c.longest, math.Sqrt(square))
	}
	c.certainty = slack * float64(s.D+2)
	if s.D > maxScreen {
		c.certainty = math.Inf(1)
	}
	return c
}

// assignPortable labels each row with the centroid of the greatest score and adds the row to its sums.
func assignPortable(s *lloyd.Step) {
	c := pack(s)
	x, centred := make([]float64, s.D), make([]float32, s.D)
	score := make([]float64, len(c.bias))
	for i := range s.N {
		square := 0.0
		centre(centred, s, i)
		for p, v := range centred {
			x[p] = float64(v)
			square += x[p] * x[p]
		}
		best, second, label := math.Inf(-1), math.Inf(-1), 0
		for q := 0; q < len(score); q += panelWidth {
			out := (*[panelWidth]float64)(score[q:])
			*out = [panelWidth]float64(c.bias[q:])
			products(x, c.panels[q*s.D:][:s.D*panelWidth], out)
			for l, v := range out {
				if v > second {
					if second = v; v > best {
						best, second, label = v, best, q+l
					}
				}
			}
		}
		doubt := 2*c.certainty*(math.Sqrt(square)*c.longest+c.deepest) + float64(s.D)*0x1p-148
		if !(second < best-doubt) {
			var chains int
			label, chains = decide(s, centred, score[:s.K], best-doubt)
			s.Exact += int64(chains)
		}
		settle(s, x, i, int32(label))
	}
}

// decide returns the argmax of the canonical scores over the centroids whose screened score reaches the limit, and how many those are.
func decide(s *lloyd.Step, x []float32, screened []float64, limit float64) (label, chains int) {
	best := float32(math.Inf(-1))
	for j, v := range screened {
		if v < limit {
			continue
		}
		chains++
		if a := chain(s.Bias[j], x, s.Centroids[j*s.D:][:s.D]); a > best {
			best, label = a, j
		}
	}
	return label, chains
}

// chain is the canonical score: a = fma32(u[p], v[p], a) for rising p.
func chain(a float32, u, v []float32) float32 {
	v = v[:len(u)]
	for p, f := range u {
		a = canon.FMA32(f, v[p], a)
	}
	return a
}

// products adds x·panel to the eight sums, in any rounding.
func products(x, panel []float64, a *[panelWidth]float64) {
	a0, a1, a2, a3, a4, a5, a6, a7 := a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
	for p, v := range x {
		c := (*[panelWidth]float64)(panel[p*panelWidth:])
		a0 += v * c[0]
		a1 += v * c[1]
		a2 += v * c[2]
		a3 += v * c[3]
		a4 += v * c[4]
		a5 += v * c[5]
		a6 += v * c[6]
		a7 += v * c[7]
	}
	*a = [panelWidth]float64{a0, a1, a2, a3, a4, a5, a6, a7}
}
