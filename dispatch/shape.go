// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

// ErrShape is wrapped by the error for a text that is not the shape of a call.
var ErrShape = errors.New("not a shape")

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

// Thin is the variant of matmul for products of few rows, as a model makes for one token: each value of B serves so few multiply-adds that reading it is what takes the time, and the caches that
// hold B show in it.
const Thin Variant = 1

// thinRows is the greatest number of rows of a Thin product.
const thinRows = 4

// Inside is the variant of constrain for steps that lie inside the ball already, in place: only the norm is computed.
const Inside Variant = 1

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
	M       int64 // rows of matmul
	Batch   int64 // products of matmul
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
		return [numFeatures]float64{1, n * k * d, n * d, k * d, n * k, n}
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
	case backends.OpTernary:
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
		centroids := 4 * float64(s.K) * float64(s.D)
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
	}
	return 4 * n, 8
}

// typicalIterations are those of a fit of k-means, whose predictions are of one.
const typicalIterations = 10

// typicalParts is how many parts a call has, as predictions count them.
func (s *Shape) typicalParts() float64 {
	if s.Op == backends.OpKMeans {
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

// String formats the shape as ParseShape reads it: "1000000", "1000000x1000", "100000x64x256", "512x512x512x8". Variants of quantize and step are not told apart.
func (s Shape) String() string {
	if s.Op == backends.OpKMeans {
		return fmt.Sprintf("%dx%dx%d", s.N, s.D, s.K)
	}
	if s.Op == backends.OpClusters {
		return fmt.Sprintf("%dx%d", s.N, s.K)
	}
	if s.Op == backends.OpTernary {
		return fmt.Sprintf("%dx%dx%d", s.N, s.K, s.M)
	}
	if s.Op == backends.OpMatMul {
		text := fmt.Sprintf("%dx%dx%d", s.M, s.N, s.K)
		if s.Batch > 1 {
			text += fmt.Sprintf("x%d", s.Batch)
		}
		return text
	}
	return strconv.FormatInt(s.N, 10)
}

// ParseShape reads an op and a size: a number of values, values x clusters for constrain-clusters, points x dimension x clusters for kmeans, or rows x columns x depth
// for matmul, x batch if it is not 1, or rows x columns of weights for ternary-matmul, whose codes have 2 bits, x rows of activations if they are not 1. Quantize and step are ternary absmean to int8 with one scale. Errors wrap ErrShape and show what would be right.
func ParseShape(op, text string) (Shape, error) {
	var o backends.Op
	for _, known := range backends.Ops() {
		if known.String() == op {
			o = known
		}
	}
	example, parts := "1000000", strings.Split(text, "x")
	if o == backends.OpKMeans {
		example = "100000x64x256 (points x dimension x clusters)"
	}
	if o == backends.OpClusters {
		example = "1000000x1000 (values x clusters)"
	}
	if o == backends.OpMatMul {
		example = "1024x1024x1024 (rows x columns x depth)"
	}
	if o == backends.OpTernary {
		example = "4096x4096 (rows x columns, x rows of activations)"
	}
	fail := func(why string) (Shape, error) {
		return Shape{}, fmt.Errorf("%w: %q for %s: %s; write it like %s", ErrShape, text, op, why, example)
	}
	if o == 0 {
		return Shape{}, fmt.Errorf("%w: unknown op %q; ops are quantize, constrain, dot, norm2, kmeans, matmul, constrain-clusters, step, activations, ternary-matmul and recode, as in: quantize 1000000", ErrShape, op)
	}
	var sizes []int64
	product := 1.0
	for _, p := range parts {
		v, err := strconv.ParseInt(p, 10, 64)
		if err != nil || v < 1 || v > math.MaxInt {
			return fail("sizes are whole numbers of at least 1")
		}
		sizes = append(sizes, v)
		product *= float64(v)
	}
	if product > math.MaxInt64/64 {
		return fail("the product of the sizes is too large")
	}
	switch {
	case o == backends.OpKMeans && len(sizes) != 3:
		return fail("three sizes are needed")
	case o == backends.OpKMeans && sizes[2] > sizes[0]:
		return fail("there are more clusters than points")
	case o == backends.OpKMeans:
		return KMeans(int(sizes[0]), int(sizes[1]), int(sizes[2])), nil
	case o == backends.OpClusters && len(sizes) != 2:
		return fail("two sizes are needed")
	case o == backends.OpClusters:
		return Clusters(int(sizes[0]), int(sizes[1])), nil
	case o == backends.OpTernary && (len(sizes) == 2 || len(sizes) == 3):
		w := &quant.Tensor{Rows: int(sizes[0]), Cols: int(sizes[1]), Levels: quant.Ternary, Format: quant.Bits2}
		return Ternary(w, int(append(sizes, 1)[2])), nil
	case o == backends.OpTernary:
		return fail("two sizes are needed, or three")
	case o == backends.OpMatMul && len(sizes) == 3:
		return MatMul(int(sizes[0]), int(sizes[1]), int(sizes[2]), 1), nil
	case o == backends.OpMatMul && len(sizes) == 4:
		return MatMul(int(sizes[0]), int(sizes[1]), int(sizes[2]), int(sizes[3])), nil
	case o == backends.OpMatMul:
		return fail("three sizes are needed, or four with a batch")
	case len(sizes) != 1:
		return fail("one size is needed")
	case o == backends.OpQuantize:
		return Quantize(int(sizes[0]), quant.Options{}.WithDefaults(int(sizes[0]))), nil
	case o == backends.OpStep:
		return Step(int(sizes[0]), quant.Options{}.WithDefaults(int(sizes[0]))), nil
	}
	switch o {
	case backends.OpActivations:
		return Activations(int(sizes[0]), 1), nil
	case backends.OpRecode: // 2 bits to bytes
		return Recode(&quant.Tensor{Rows: 1, Cols: int(sizes[0]), Format: quant.Bits2}, quant.Int8), nil
	}
	return Vector(o, int(sizes[0])), nil
}
