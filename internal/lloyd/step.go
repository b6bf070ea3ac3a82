// SPDX-License-Identifier: Apache-2.0

// Package lloyd is the k-means algorithm without its kernels: centring, k-means++, Lloyd's iterations, empty
// clusters, convergence. The work that touches points is a [Step], which a backend does; so every backend shares one loop, and
// the loop can stop between steps when its context ends.
package lloyd

import "sync/atomic"

// Kind says what a Step does. The numbers are those of the C ABI.
type Kind uint32

// The kinds of steps.
const (
	Range    Kind = 1 // Low and High take in the smallest and largest value of each column
	Mean     Kind = 2 // Sums[j] += Σ rint(x_j·Scale[j])
	Assign   Kind = 3 // Labels; with Sums also Sums, Counts, WeightSums; Changed
	Distance Kind = 4 // Distance[i] = ‖x′ − centroid of its label‖²; centroid 0 without Labels

	// Potential sets Sums[i/4096] = Σ rint(Weights[i]·Distance[i]·s) and WeightScale = s = WeightScale/2^E, where E is the binary exponent of the greatest product.
	Potential Kind = 5
	Units     Kind = 6 // Distance[i] = 1/‖x_i‖

	// Iterate does up to Iterations of them: each is Assign with sums, whose biases it finds itself, and then the centroids go to the means of their clusters, with Unit those of length 1. Only steps that say so do it.
	Iterate Kind = 7
	// Seed sets Centroids to K rows by k-means++, with WeightScale 2^B as for Potential and Distance for scratch. So do only steps that do Iterate.
	Seed Kind = 8
)

// Stop says why Iterate came back. The numbers are those of the C ABI.
type Stop uint32

// The ends of a run of iterations.
const (
	All     Stop = 0 // so many were asked for
	Settled Stop = 1 // no label changed; the last iteration has not moved the centroids
	Unmoved Stop = 2 // a cluster is empty, or the host does it always: the last iteration has not moved the centroids
	Still   Stop = 3 // the centroids moved by no more than Limit
)

// Step is one pass over a range of rows: the Go form of setun_kmeans in native/include/setun/backend.h, with the same meaning.
type Step struct {
	Kind    Kind
	KeepMin bool // Distance: keep the smaller of the old value and the new one
	Moved   bool // Assign: only rows that move are added, and taken from the sums of their old label

	X       []float32 // N*D
	N, D, K int
	Unit    []float32     // N: what rows are multiplied by before the mean is subtracted; nil: 1
	Cancel  *atomic.Int32 // non-zero asks the step to stop; may be nil

	Mean      []float32 // D: subtracted from every row
	Centroids []float32 // K*D, the mean already subtracted
	Bias      []float32 // K: −‖c‖²/2
	Weights   []float32 // N, or nil

	Scale       []float64 // D powers of two
	WeightScale float64

	Low, High  []float32 // D
	Labels     []int32   // N
	Distance   []float32 // N
	Sums       []int64   // K*D; D for Mean; one a chunk for Potential
	Counts     []int64   // K
	WeightSums []int64   // K

	Changed int64 // out: labels that Assign moved, or the last iteration
	Exact   int64 // out: scores that Assign computed in the canonical chain, of N*K; the others it knew not to be the greatest; those of all iterations

	Iterations int     // Iterate: how many at most; out: how many were begun
	Limit      float64 // Iterate: of the squared movement of the centroids; negative: none
	Stopped    Stop    // out
	Seed       uint64
}

// Func does a step. Range returns an error that wraps backends.ErrNonFinite for a NaN or an infinity; the caller names where. A step that
// was cancelled returns context.Canceled.
type Func func(*Step) error

// Steps does the steps of a run. A backend with memory of its own may keep Labels, Distance and Unit there from step to step; then it also has Pull and Push, which the loop calls where the
// host itself touches those arrays. That is for passes over all rows; those of a mini-batch are filled in by the host every time. Where they are nil all arrays are the host's.
type Steps struct {
	Step     Func
	Iterates bool // Step does Iterate and Seed
	// Pull brings what steps have written into these arrays, or parts of arrays, to the host, which is about to read them. Either may be nil.
	Pull func(labels []int32, distance []float32) error
	// Points brings a part of X to the host, which is about to read it. Nil: X is there.
	Points func(part []float32) error
	// Push says that the host has written these arrays, whole. Either may be nil.
	Push func(labels []int32, distance []float32)
}

// Rows returns the step for rows i to i+n−1 alone. Sums, counts and ranges are shared with s.
func (s *Step) Rows(i, n int) Step {
	part := *s
	part.X, part.N = s.X[i*s.D:][:n*s.D], n
	part.Unit, part.Weights, part.Distance, part.Labels = cut(s.Unit, i, n), cut(s.Weights, i, n), cut(s.Distance, i, n), cut(s.Labels, i, n)
	part.Changed, part.Exact = 0, 0
	return part
}

func cut[E any](s []E, i, n int) []E {
	if s == nil {
		return nil
	}
	return s[i : i+n]
}
