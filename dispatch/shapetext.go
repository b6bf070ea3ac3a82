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

// String formats the shape as ParseShape reads it, but for lists of problems: "1000000", "1000000x1000", "100000x64x256", "512x512x512x8". Variants of quantize and step are not told apart.
func (s Shape) String() string {
	if s.Op == backends.OpKMeans {
		text := fmt.Sprintf("%dx%dx%d", s.N, s.D, s.K)
		if s.Listed() {
			text += fmt.Sprintf(" in %d problems", s.Batch)
		}
		return text
	}
	if s.Op == backends.OpClusters {
		return fmt.Sprintf("%dx%d", s.N, s.K)
	}
	if s.Op == backends.OpTernary {
		return fmt.Sprintf("%dx%dx%d", s.N, s.K, s.M)
	}
	if rowwise(s.Op) {
		return fmt.Sprintf("%dx%d", s.M, s.K)
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

// rowwise says whether an op's shape is rows x columns.
func rowwise(op backends.Op) bool {
	return op == backends.OpRMSNorm || op == backends.OpSoftmax || op == backends.OpActivate
}

// ParseShape reads an op and a size: a number of values, values x clusters for constrain-clusters, points x dimension x clusters for kmeans, or rows x columns x depth
// for matmul, x batch if it is not 1, or rows x columns of weights for ternary-matmul, whose codes have 2 bits, x rows of activations if they are not 1, or rows x columns for rmsnorm, softmax and activate, whose rows are whole and which are no gradients. Quantize and step are ternary absmean to int8 with one scale. Errors wrap ErrShape and show what would be right.
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
	if rowwise(o) {
		example = "768x128 (rows x columns)"
	}
	fail := func(why string) (Shape, error) {
		return Shape{}, fmt.Errorf("%w: %q for %s: %s; write it like %s", ErrShape, text, op, why, example)
	}
	if o == 0 {
		return Shape{}, fmt.Errorf("%w: unknown op %q; ops are quantize, constrain, dot, norm2, kmeans, matmul, constrain-clusters, step, activations, ternary-matmul, recode, rmsnorm, softmax, activate and update, as in: quantize 1000000", ErrShape, op)
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
	case (o == backends.OpClusters || rowwise(o)) && len(sizes) != 2:
		return fail("two sizes are needed")
	case o == backends.OpRMSNorm:
		return RMSNorm(int(sizes[0]), int(sizes[1]), false), nil
	case o == backends.OpSoftmax:
		return Softmax(int(sizes[0]), int(sizes[1]), 0, false), nil
	case o == backends.OpActivate:
		return Activate(backends.ReLU2, int(sizes[0]), int(sizes[1]), false), nil
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
	case backends.OpUpdate:
		return Update(backends.AdamW, int(sizes[0])), nil
	case backends.OpActivations:
		return Activations(int(sizes[0]), 1), nil
	case backends.OpRecode: // 2 bits to bytes
		return Recode(&quant.Tensor{Rows: 1, Cols: int(sizes[0]), Format: quant.Bits2}, quant.Int8), nil
	}
	return Vector(o, int(sizes[0])), nil
}
