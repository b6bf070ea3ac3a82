// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"github.com/setun-compute/setun/internal/canon"
)

// tiny is the share of the total below which an inertia is rounding of the float32 points: (2^-24)².
const tiny = 0x1p-48

// logTwoPi is ln 2π.
const logTwoPi = 1.8378770664093454836

// inertia is Σ‖x − mean of its leaf‖².
func (p *path) inertia() float64 {
	w := 0.0
	for i := range p.leaves {
		w += p.leaves[i].sse
	}
	return w
}

// bic is the Bayesian information criterion of k spherical Gaussians with one variance: Pelleg and Moore, X-means (ICML 2000), more is better. σ² is a column's
// variance, W/(d(n−k)); the paper leaves out the d there, which makes its likelihood that of d = 1. W below tiny·total counts as that.
//
//	BIC = Σ nᵢ·ln(nᵢ/n) − n·d/2·ln(2πσ²) − d(n−k)/2 − (k·(d+1))/2·ln n
//
// k−1 shares, k·d means and one variance make k(d+1) parameters. It is 0 when all points are equal.
func (p *path) bic(w float64) float64 {
	if p.root.sse == 0 {
		return 0
	}
	n, d, k := float64(p.n), float64(p.dim), float64(len(p.leaves))
	shares := 0.0
	for i := range p.leaves {
		r := float64(p.leaves[i].n)
		shares += float64(r * canon.Log(r/n))
	}
	free := d * (n - k)
	variance := max(w, p.root.sse*tiny) / free
	fit := float64(n * d / 2 * (logTwoPi + canon.Log(variance)))
	return shares - fit - free/2 - float64(k*(d+1)/2*canon.Log(n))
}

// calinskiHarabasz is (B/(k−1)) / (W/(n−k)) with B = total − W: Caliński and Harabasz, A dendrite method for cluster analysis (1974). 0 for k = 1.
func (p *path) calinskiHarabasz(w float64) float64 {
	k := len(p.leaves)
	if k == 1 {
		return 0
	}
	w = max(w, p.root.sse*tiny)
	return (p.root.sse - w) / float64(k-1) / (w / float64(p.n-k))
}

// knees returns the difference curve of Kneedle (Satopaa, Albrecht, Irwin, Raghavan: Finding a "kneedle" in a haystack, ICDCS workshops 2011) for a
// falling convex curve, and the index of its knee, -1 without one. x and y are scaled to [0, 1] and the difference is 1 − y − x. A local maximum of it
// is a knee once the difference falls below the maximum less the mean step of x (sensitivity S = 1) before it rises again; of several the highest is
// taken.
//
// Nothing is smoothed: inertia is exact.
func knees(y []float64) (difference []float64, knee int) {
	n := len(y)
	difference, knee = make([]float64, n), -1
	if n < 3 || !(y[0] > y[n-1]) {
		return difference, knee
	}
	step := 1 / float64(n-1)
	for i := range y {
		difference[i] = (y[0]-y[i])/(y[0]-y[n-1]) - float64(i)/float64(n-1)
	}
	for i := 1; i < n-1; i++ {
		if !(difference[i] > difference[i-1] && difference[i] > difference[i+1]) {
			continue
		}
		for j := i + 1; j < n && difference[j] < difference[j-1]; j++ {
			if difference[j] < difference[i]-step && (knee < 0 || difference[i] > difference[knee]) {
				knee = i
			}
		}
	}
	return difference, knee
}
