// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

// Variant tells calls of one op apart whose cost per element differs. Every op has variant 0.
type Variant uint8

// The variants of quantize are sums of these; the zero value is one pass for the scale, int8 codes, one scale.
const (
	Packed     Variant = 1 // 2-bit or base-3 codes
	Grouped    Variant = 2 // more than one scale
	Iterative  Variant = 4 // least-squares and magnitude-preserving rules
	Random     Variant = 8 // stochastic rounding
	numVariant         = 16
)

// Beside is added to any op's variant when other calls are in flight. Threads are worth nothing then. Models do not tell such calls apart, and nothing is learned from them: what they take
// says more of the others.
const Beside Variant = 16

// Broad is the variant of k-means whose centroids are so many and so long that kernels screen the scores in integers: what that saves is not in
// the four features.
const Broad Variant = 1

// Many is added to the variant of k-means for a list of problems that is one call: launches are shared, and what a device does beside them is in none of the features.
const Many Variant = 2

// Streamed is added to the variant of k-means whose points no device has memory for: one copies them for every pass.
const Streamed Variant = 4

// Thin is the variant of matmul for products of few rows, as a model makes for one token: each value of B serves so few multiply-adds that reading it is what takes the time, and the caches that
// hold B show in it.
const Thin Variant = 1

// thinRows is the greatest number of rows of a Thin product.
const thinRows = 4

// Inside is the variant of constrain for steps that lie inside the ball already, in place: only the norm is computed.
const Inside Variant = 1

// The variants of rmsnorm, softmax and activate are sums of these: gradients; SwiGLU.
const (
	Gradient Variant = 1
	Gated    Variant = 2
)

// Plain is the variant of update without a second moment.
const Plain Variant = 1

// broad says where the native kernels screen: setun_screens in native/kernels/screen.h has the same limits.
func broad(d, k int64) bool { return k >= 64 && d >= 24 && d <= 1<<14 && k >= (6144+d-1)/d }

// typicalRounds is how often the least-squares rules read a group, beside the reads of the other rules.
const typicalRounds = 8

// Shape is the size of one call: what its cost depends on.
type Shape struct {
	Op      backends.Op
	Variant Variant
	N       int64 // values; points of kmeans; columns of matmul
	D, K    int64 // dimension and clusters of kmeans; K also clusters of constrain-clusters, and depth of matmul: columns of A and rows of B
	M       int64 // rows of matmul, activations, rmsnorm, softmax and activate, of which the last three have K values each
	Batch   int64 // products of matmul; problems of kmeans with Many, whose points N are those of all
	Fast    bool  // matmul: kernels whose results are not canonical may run it too
	Groups  int64 // scales of quantize and step
	Out     int64 // bytes that they write as codes
}

// Vector returns the shape of constrain, dot or norm2 over n values.
func Vector(op backends.Op, n int) Shape { return Shape{Op: op, N: int64(n)} }

// KMeans returns the shape of an iteration over n points of d values with k clusters.
func KMeans(n, d, k int) Shape {
	s := Shape{Op: backends.OpKMeans, N: int64(n), D: int64(d), K: int64(k)}
	if broad(s.D, s.K) {
		s.Variant = Broad
	}
	return s
}

// KMeansMany returns the shape of an iteration of so many problems in one call, with n points in all.
func KMeansMany(n, d, k, problems int) Shape {
	s := KMeans(n, d, k)
	s.Variant |= Many
	s.Batch = int64(problems)
	return s
}

// Clusters returns the shape of constrain over n values in k clusters.
func Clusters(n, k int) Shape { return Shape{Op: backends.OpClusters, N: int64(n), K: int64(k)} }

// Step returns the shape of constrain, apply and quantize on n values; options are as for Quantize.
func Step(n int, o quant.Options) Shape {
	s := Quantize(n, o)
	s.Op = backends.OpStep
	return s
}

// MatMul returns the shape of a batch of products of m rows, n columns and depth k.
func MatMul(m, n, k, batch int) Shape {
	s := Shape{Op: backends.OpMatMul, M: int64(m), N: int64(n), K: int64(k), Batch: int64(batch)}
	if m <= thinRows {
		s.Variant = Thin
	}
	return s
}

// Activations returns the shape of quantizing n values in so many rows.
func Activations(n, rows int) Shape {
	return Shape{Op: backends.OpActivations, N: int64(n), M: int64(rows)}
}

// Ternary returns the shape of multiplying so many rows of activations by a quantized matrix.
func Ternary(w *quant.Tensor, batch int) Shape {
	s := Shape{Op: backends.OpTernary, N: int64(w.Rows), K: int64(w.Cols), M: int64(batch), Out: int64(w.Format.RowBytes(w.Cols)) * int64(w.Rows), Groups: int64(quant.ScaleCount(w.Rows, w.Cols, w.Group)), Variant: ternaryVariants[w.Format%8]}
	if w.Format == quant.Planes && len(w.Index) > 0 {
		s.Out += w.Index[len(w.Index)-1]
	}
	return s
}

// RMSNorm returns the shape of norms of so many rows, or of their gradients.
func RMSNorm(rows, cols int, gradient bool) Shape {
	return Shape{Op: backends.OpRMSNorm, N: int64(rows) * int64(cols), M: int64(rows), K: int64(cols), Variant: onlyIf(gradient, Gradient)}
}

// Softmax returns the shape of softmaxes of so many rows, or of their gradients; period is that of causal attention's rows, whose values are counted as far as they go.
func Softmax(rows, cols, period int, gradient bool) Shape {
	s := Shape{Op: backends.OpSoftmax, N: int64(rows) * int64(cols), M: int64(rows), K: int64(cols), Variant: onlyIf(gradient, Gradient)}
	if period > 0 {
		s.N -= int64(rows) * int64(period-1) / 2
	}
	return s
}

// Activate returns the shape of a function, or of its gradient, whose result has so many rows and columns.
func Activate(f backends.Function, rows, cols int, gradient bool) Shape {
	return Shape{Op: backends.OpActivate, N: int64(rows) * int64(cols), M: int64(rows), K: int64(cols), Variant: onlyIf(gradient, Gradient) | onlyIf(f == backends.SwiGLU, Gated)}
}

// Update returns the shape of an optimiser's step for n parameters.
func Update(method backends.Method, n int) Shape {
	return Shape{Op: backends.OpUpdate, N: int64(n), Variant: onlyIf(method == backends.Momentum, Plain)}
}

func onlyIf(is bool, v Variant) Variant {
	if is {
		return v
	}
	return 0
}

// Recode returns the shape of turning a tensor's codes into another format.
func Recode(t *quant.Tensor, f quant.Format) Shape {
	s := Shape{Op: backends.OpRecode, N: int64(t.Rows) * int64(t.Cols), Out: int64(f.RowBytes(t.Cols)) * int64(t.Rows), Variant: ternaryVariants[t.Format%8]}
	if f != quant.Int8 {
		s.Variant += 8
	}
	return s
}

// ternaryVariants are those of ternary-matmul: codes are unpacked in another way in each format, those of 2 bits being the plainest.
var ternaryVariants = [8]Variant{quant.Bits2: 0, quant.Int8: 1, quant.Base3: 2, quant.Four5: 3, quant.Planes: 4}

// Quantize returns the shape of a call on n values with options that have their defaults filled in. Columns that are not positive
// count as one row.
func Quantize(n int, o quant.Options) Shape {
	if o.Cols < 1 {
		o.Cols = max(1, n)
	}
	rows := n / o.Cols
	s := Shape{Op: backends.OpQuantize, N: int64(n), Groups: int64(quant.ScaleCount(rows, o.Cols, o.Group)), Out: int64(rows * o.Format.RowBytes(o.Cols))}
	if o.Format != quant.Int8 {
		s.Variant |= Packed
	}
	if s.Groups > 1 {
		s.Variant |= Grouped
	}
	switch o.Rule {
	case quant.LeastSquares, quant.Magnitude:
		s.Variant |= Iterative
	case quant.Stochastic:
		s.Variant = s.Variant&^Iterative | Random
	}
	if o.Levels == quant.Sparse {
		s.Variant |= Iterative | Random // no other call is both
	}
	return s
}

// Work is the size that corrections are kept by: values, or multiply-adds of an iteration. It is never negative.
func (s Shape) Work() float64 {
	switch s.Op {
	case backends.OpKMeans:
		return max(0, float64(s.N)*float64(s.D)*float64(s.K))
	case backends.OpMatMul:
		return max(0, float64(s.Batch)*float64(s.M)*float64(s.N)*float64(s.K))
	case backends.OpTernary:
		return max(0, float64(s.M)*float64(s.N)*float64(s.K))
	}
	return max(0, float64(s.N))
}

// features are what the roofline's coefficients multiply; the first is 1.
func (s *Shape) features() [numFeatures]float64 {
	n := float64(s.N)
	switch s.Op {
	case backends.OpQuantize, backends.OpStep:
		reads := 2.0
		if s.Op == backends.OpStep {
			reads = 5 // delta twice; params read and written to apply, and read for the codes
		}
		if s.Variant&Iterative != 0 {
			reads += typicalRounds
		}
		return [numFeatures]float64{1, 4 * n * reads, float64(s.Out), float64(s.Groups)}
	case backends.OpKMeans:
		d, k := float64(s.D), float64(s.K)
		return [numFeatures]float64{1, n * k * d, n * d, s.centroids(), n * k, n}
	case backends.OpMatMul:
		b, m, k := float64(s.Batch), float64(s.M), float64(s.K)
		return [numFeatures]float64{1, b * m * n * k, b * (m*k + k*n + m*n)}
	case backends.OpTernary:
		b, k := float64(s.M), float64(s.K)
		return [numFeatures]float64{1, b * n * k, float64(s.Out), b*k + b*n, b * float64(s.Groups)}
	case backends.OpActivations:
		return [numFeatures]float64{1, 5 * n, float64(s.M)}
	case backends.OpRecode:
		return [numFeatures]float64{1, n, float64(s.Out)}
	case backends.OpRMSNorm, backends.OpSoftmax, backends.OpActivate, backends.OpUpdate:
		return [numFeatures]float64{1, s.Bytes(), float64(s.M)}
	case backends.OpDot:
		return [numFeatures]float64{1, 8 * n}
	case backends.OpClusters:
		return [numFeatures]float64{1, 4 * n, float64(s.K)}
	}
	return [numFeatures]float64{1, 4 * n}
}

// Bytes is the memory that a call must move at least: inputs and outputs once.
func (s Shape) Bytes() float64 {
	n := float64(s.N)
	switch s.Op {
	case backends.OpQuantize:
		return 4*n + float64(s.Out) + 4*float64(s.Groups)
	case backends.OpKMeans:
		return 4*n*float64(s.D) + 4*n
	case backends.OpMatMul:
		m, k := float64(s.M), float64(s.K)
		return 4 * float64(s.Batch) * (m*k + k*n + m*n)
	case backends.OpDot:
		return 8 * n
	case backends.OpClusters:
		return 4*n + 16*float64(s.K)
	case backends.OpStep:
		return 12*n + float64(s.Out) + 4*float64(s.Groups)
	case backends.OpActivations:
		return 5 * n
	case backends.OpRecode:
		return n/4 + float64(s.Out)
	case backends.OpTernary, backends.OpRMSNorm, backends.OpSoftmax, backends.OpActivate, backends.OpUpdate:
		in, out := s.traffic()
		return in + out
	}
	return 4 * n
}

// traffic is how many bytes of a call's operands are read and written, each once: what is copied to a device and back if all of it is the program's.
func (s *Shape) traffic() (in, out float64) {
	n := float64(s.N)
	switch s.Op {
	case backends.OpQuantize:
		return 4 * n, float64(s.Out) + 4*float64(s.Groups)
	case backends.OpStep:
		return 8 * n, 4*n + float64(s.Out) + 4*float64(s.Groups)
	case backends.OpKMeans:
		centroids := 4 * s.centroids()
		return 4*n*float64(s.D) + centroids, 4*n + centroids
	case backends.OpMatMul:
		m, k, b := float64(s.M), float64(s.K), float64(s.Batch)
		return 4 * b * (m*k + k*n), 4 * b * m * n
	case backends.OpConstrain:
		return 4 * n, 4 * n
	case backends.OpClusters:
		return 4*n + 4*n, 4 * n // the clusters' numbers too
	case backends.OpActivations:
		return 4 * n, n
	case backends.OpRecode:
		return n / 4, float64(s.Out)
	case backends.OpTernary:
		return float64(s.Out) + 4*float64(s.Groups) + float64(s.M)*float64(s.K), 4 * float64(s.M) * n
	case backends.OpDot:
		return 8 * n, 8
	case backends.OpRMSNorm, backends.OpSoftmax:
		if s.Variant&Gradient != 0 {
			return 8 * n, 4 * n
		}
		return 4 * n, 4 * n
	case backends.OpActivate:
		x := 4 * n
		if s.Variant&Gated != 0 {
			x = 8 * n
		}
		if s.Variant&Gradient != 0 {
			return x + 4*n, x
		}
		return x, 4 * n
	case backends.OpUpdate:
		if s.Variant&Plain != 0 {
			return 12 * n, 8 * n
		}
		return 16 * n, 12 * n
	}
	return 4 * n, 8
}

// Listed says whether the shape is that of many problems in one call, which some arms alone can do.
func (s *Shape) Listed() bool { return s.Op == backends.OpKMeans && s.Variant&Many != 0 }

// centroids is how many values they have, those of all problems.
func (s *Shape) centroids() float64 { return max(1, float64(s.Batch)) * float64(s.K) * float64(s.D) }

// typicalIterations are those of a fit of k-means, whose predictions are of one.
const typicalIterations = 10

// typicalParts is how many parts a call has that share what is moved for it, as predictions count them.
func (s *Shape) typicalParts() float64 {
	if s.Op == backends.OpKMeans && s.Variant&Streamed == 0 {
		return typicalIterations
	}
	return 1
}

// Flops is the arithmetic of a product, in integers or not, or of a k-means iteration's scores, 0 for the other ops: memory limits those.
func (s Shape) Flops() float64 {
	if s.Op == backends.OpKMeans || s.Op == backends.OpMatMul || s.Op == backends.OpTernary {
		return 2 * s.Work()
	}
	return 0
}
