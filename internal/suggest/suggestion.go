// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"context"
	"fmt"
	"math"
)

// Options says how Run searches. Its fields are set.
type Options struct {
	MaxK    int
	MaxIter int // of a 2-means over all rows of a cluster
	Seed    uint64
}

// Candidate is what the criteria say of one k. More is better, except of the inertia, which always falls.
type Candidate struct {
	K                int     `json:"k"`
	Inertia          float64 `json:"inertia"`           // Σ‖point − mean of its cluster‖²
	BIC              float64 `json:"bic"`               // of spherical Gaussians with one variance (X-means)
	CalinskiHarabasz float64 `json:"calinski_harabasz"` // variance between over variance within clusters, per degree of freedom; 0 for k = 1
	Silhouette       float64 `json:"silhouette"`        // simplified: mean (b − a)/max(a, b), in [−1, 1]; 0 for k = 1
	Knee             float64 `json:"knee"`              // Kneedle's difference curve of the inertia, at most 1
	Separation       float64 `json:"separation"`        // of the split that led to this k: total over remaining variance of held-out rows; 0: too few rows, or k = 1
	Apart            bool    `json:"apart"`             // the separation is more than one symmetric peak can reach
}

// Vote is a criterion's choice.
type Vote struct {
	Criterion string `json:"criterion"`
	K         int    `json:"k"` // 0: it has none
}

// Suggestion is a number of clusters with the evidence for it.
type Suggestion struct {
	K          int         `json:"k"`
	Reason     string      `json:"reason"`
	Points     int         `json:"points"`
	Dim        int         `json:"dim"`
	Votes      []Vote      `json:"votes"`
	Candidates []Candidate `json:"candidates"` // k = 1, 2, …
	Joined     int         `json:"joined"`     // how many of the clusters voted for were joined to a neighbour that they share a peak with: K is lower by as many
	Sampled    int         `json:"sampled"`    // rows that the silhouettes were computed from
	RowVisits  int64       `json:"row_visits"` // rows that 2-means iterations read; an iteration over all points has Points
	Centroids  []float32   `json:"-"`          // K×Dim: the means of the suggested clusters, to start KMeans from
}

// Run suggests k for the rows of points. It returns bisect's errors, ctx's, and ErrNonFinite naming row and column.
func Run(ctx context.Context, points []float32, dim int, o Options, bisect Bisect) (*Suggestion, error) {
	n := len(points) / dim
	o.MaxK = min(o.MaxK, max(1, n-1)) // n clusters of one point each leave nothing to judge by
	all, err := total(ctx, "suggest k", points, dim)
	if err != nil {
		return nil, err
	}
	p := &path{ctx: ctx, points: points, n: n, dim: dim, o: o, bisect: bisect, root: all}
	s := &Suggestion{Points: n, Dim: dim}
	var inertias []float64
	err = p.grow(func() {
		w := p.inertia()
		c := Candidate{K: len(p.leaves), Inertia: w, BIC: p.bic(w), CalinskiHarabasz: p.calinskiHarabasz(w)}
		if c.K > 1 {
			last := p.splits[c.K-2].separation
			c.Separation, c.Apart = last.Ratio, last.apart()
		}
		s.Candidates = append(s.Candidates, c)
		inertias = append(inertias, w)
	})
	if err != nil {
		return nil, err
	}
	difference, knee := knees(inertias)
	silhouettes, sampled, err := p.silhouettes()
	if err != nil {
		return nil, err
	}
	for i := range s.Candidates {
		s.Candidates[i].Knee, s.Candidates[i].Silhouette = difference[i], silhouettes[i]
	}
	s.Sampled, s.RowVisits = sampled, p.visits
	s.vote(knee)
	list, err := p.mend(p.clusters(s.K))
	if err != nil {
		return nil, err
	}
	if s.Joined = s.K - len(list); s.Joined > 0 {
		s.K = len(list)
		s.Reason += fmt.Sprintf("; joining neighbours that share one peak leaves k = %d", s.K)
	}
	for _, c := range list {
		s.Centroids = append(s.Centroids, narrow(c.mean)...)
	}
	return s, nil
}

// DefaultMaxK is the largest k tried: √n, beyond which clusters have fewer than √n points each, and at most 64, which bounds the cost of the evidence.
func DefaultMaxK(n int) int { return max(1, min(64, int(math.Sqrt(float64(n))))) }
