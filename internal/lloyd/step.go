// SPDX-License-Identifier: Apache-2.0

// Package lloyd is the k-means algorithm without its kernels: centring, k-means++, Lloyd's iterations, empty
// clusters, convergence. The work that touches points is a [Step], which a backend does; so every backend shares one loop, and
// the loop can stop between steps when its context ends.
package lloyd

// Kind says what a Step does. The numbers are those of the C ABI.
type Kind uint32

// The kinds of steps.
const (
	Range    Kind = 1 // Low and High take in the smallest and largest value of each column
	Mean     Kind = 2 // Sums[j] += Σ rint(x_j·Scale[j])
	Assign   Kind = 3 // Labels; with Sums also Sums, Counts, WeightSums; Changed
	Distance Kind = 4 // Distance[i] = ‖x′ − centroid of its label‖²; centroid 0 without Labels
)

// Step is one pass over a range of rows: the Go form of setun_kmeans in native/include/setun/backend.h, with the same meaning.
type Step struct {
	Kind    Kind
	KeepMin bool // Distance: keep the smaller of the old value and the new one

	X       []float32 // N*D
	N, D, K int

	Mean      []float32 // D: subtracted from every row
	Centroids []float32 // K*D, the mean already subtracted
	Bias      []float32 // K: −‖c‖²/2
	Weights   []float32 // N, or nil

	Scale       []float64 // D powers of two
	WeightScale float64

	Low, High  []float32 // D
	Labels     []int32   // N
	Distance   []float32 // N
	Sums       []int64   // K*D, or D for Mean
	Counts     []int64   // K
	WeightSums []int64   // K

	Changed int64 // out: labels that Assign moved
}

// Func does a step. Range returns an error that wraps backends.ErrNonFinite for a NaN or an infinity; the caller names where.
type Func func(*Step) error
