// SPDX-License-Identifier: Apache-2.0

// Package recheck computes a part of a call again in pure Go: a row where rows stand for themselves, else the whole of a call that is not too long. A kernel that computes wrongly, on a processor that does or through
// an error that no test saw, is found that way in the midst of work.
package recheck

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/quant"
)

// whole is how many values a call may have that is computed again as a whole: a millisecond or so.
const whole = 1 << 20

// wholeFit is the same for a fit of k-means, in scores.
const wholeFit = 1 << 18

// Check is a part of a call, taken before it runs.
type Check struct {
	// Compare computes the part in pure Go, after the call, and returns what the kernel has otherwise; "" when all bits are the same.
	Compare func() string
	// InPlace says that the call writes over what it reads: it cannot be done again.
	InPlace bool
}

var oracle cpu.Backend

// Take takes what it needs of a call's argument before the call. draw returns a number below its own. Compare is nil where nothing can be checked.
func Take(op backends.Op, a any, draw func(n int) int) Check {
	switch a := a.(type) {
	case *backends.Reduce:
		return reduce(op, a)
	case *backends.Constrain:
		return constrain(a)
	case *backends.Clusters:
		return clusters(a)
	case *backends.Quantize:
		return quantize(a, draw)
	case *backends.Step:
		return step(a)
	case *backends.MatMul:
		return matmul(a, draw)
	case *backends.Activations:
		return activations(a, draw)
	case *backends.Ternary:
		return ternary(a, draw)
	case *backends.Recode:
		return recode(a)
	case *backends.RMSNorm:
		return norm(a, draw)
	case *backends.Softmax:
		return softmax(a, draw)
	case *backends.Activate:
		return activate(a, draw)
	case *backends.Update:
		return update(a, draw)
	case *backends.KMeans:
		return kmeans(a)
	case *backends.KMeansMany:
		return kmeans(a.Fits[draw(len(a.Fits))])
	}
	return Check{}
}

// floats says where two results differ.
func floats(what string, from int, got, want []float32) string {
	for i, w := range want {
		if math.Float32bits(got[i]) != math.Float32bits(w) && (w == w || got[i] == got[i]) { // NaN has many bits
			return fmt.Sprintf("%s[%d] = %v and not %v", what, from+i, got[i], w)
		}
	}
	return ""
}

func number(what string, got, want float64) string {
	if math.Float64bits(got) != math.Float64bits(want) && (want == want || got == got) {
		return fmt.Sprintf("%s = %v and not %v", what, got, want)
	}
	return ""
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// after is what pure Go says when it fails where the kernel did not.
func after(err error, compare func() string) string {
	if err != nil {
		return fmt.Sprintf("it found nothing wrong, and pure Go did: %v", err)
	}
	return compare()
}

func same(a, b []float32) bool { return len(a) > 0 && len(b) > 0 && &a[0] == &b[0] }

func reduce(op backends.Op, a *backends.Reduce) Check {
	if len(a.X) > whole {
		return Check{}
	}
	return Check{Compare: func() string {
		b := backends.Reduce{X: a.X, Y: a.Y}
		err := oracle.Reduce(backends.Kernel{Op: op}, &b)
		return after(err, func() string { return number("the result", a.Result, b.Result) })
	}}
}

func constrain(a *backends.Constrain) Check {
	if len(a.X) > whole {
		return Check{}
	}
	x, inPlace := a.X, same(a.X, a.Dst)
	if inPlace {
		x = slices.Clone(x)
	}
	return Check{InPlace: inPlace, Compare: func() string {
		b := backends.Constrain{X: x, Dst: make([]float32, len(x)), Radius: a.Radius}
		err := oracle.Constrain(backends.Kernel{Op: backends.OpConstrain}, &b)
		return after(err, func() string { return first(number("the norm", a.Norm, b.Norm), floats("dst", 0, a.Dst, b.Dst)) })
	}}
}

func clusters(a *backends.Clusters) Check {
	if len(a.X) > whole {
		return Check{}
	}
	x, inPlace := a.X, same(a.X, a.Dst)
	if inPlace {
		x = slices.Clone(x)
	}
	return Check{InPlace: inPlace, Compare: func() string {
		b := *a
		b.X, b.Dst, b.Norms, b.Cancel = x, make([]float32, len(x)), make([]float64, len(a.Norms)), nil
		err := oracle.ConstrainClusters(backends.Kernel{Op: backends.OpClusters}, &b)
		return after(err, func() string {
			for c, n := range b.Norms {
				if t := number(fmt.Sprintf("norm %d", c), a.Norms[c], n); t != "" {
					return t
				}
			}
			return floats("dst", 0, a.Dst, b.Dst)
		})
	}}
}

func step(a *backends.Step) Check {
	if len(a.Params) > whole {
		return Check{}
	}
	params := slices.Clone(a.Params)
	return Check{InPlace: true, Compare: func() string {
		b := backends.Step{Params: params, Delta: a.Delta, Radius: a.Radius, Rule: a.Rule, Seed: a.Seed, Dst: framed(a.Dst, a.Dst.Rows)}
		err := oracle.Step(backends.Kernel{Op: backends.OpStep}, &b)
		return after(err, func() string {
			return first(number("the norm", a.Norm, b.Norm), floats("params", 0, a.Params, params), tensor(a.Dst, 0, b.Dst))
		})
	}}
}

// framed is a tensor with room for so many rows of codes like those of t.
func framed(t *quant.Tensor, rows int) *quant.Tensor {
	f := new(quant.Tensor)
	f.Resize(rows, quant.Options{Levels: t.Levels, Format: t.Format, Group: t.Group, Cols: t.Cols})
	return f
}

// tensor compares rows of got from one on with all of want.
func tensor(got *quant.Tensor, row int, want *quant.Tensor) string {
	scales := 0
	if want.Group > 0 {
		scales = len(want.Scales) / want.Rows
	}
	if t := floats("scale", row*scales, got.Scales[row*scales:], want.Scales); t != "" {
		return t
	}
	from := row * want.Cols
	for i, c := range want.Codes {
		if got.Codes[from+i] != c {
			return fmt.Sprintf("code %d = %d and not %d", from+i, got.Codes[from+i], c)
		}
	}
	if n := len(want.Packed) / want.Rows; !bytes.Equal(got.Packed[row*n:][:len(want.Packed)], want.Packed) {
		return fmt.Sprintf("packed codes from row %d on differ", row)
	}
	return ""
}

func quantize(a *backends.Quantize, draw func(int) int) Check {
	t, row, rows := a.Dst, 0, a.Dst.Rows
	switch {
	case len(a.X) <= whole:
	case t.Group > 0 && a.Rule != quant.Stochastic && t.Cols <= whole: // a row stands for itself
		row, rows = draw(t.Rows), 1
	default:
		return Check{}
	}
	return Check{Compare: func() string {
		b := backends.Quantize{X: a.X[row*t.Cols:][:rows*t.Cols], Rule: a.Rule, Seed: a.Seed, Dst: framed(t, rows)}
		err := oracle.Quantize(backends.Kernel{Op: backends.OpQuantize}, &b)
		return after(err, func() string { return tensor(t, row, b.Dst) })
	}}
}

func recode(a *backends.Recode) Check {
	if a.From.Rows*a.From.Cols > whole {
		return Check{}
	}
	return Check{Compare: func() string {
		to := framed(a.To, a.To.Rows)
		err := oracle.Recode(backends.Kernel{Op: backends.OpRecode}, &backends.Recode{From: a.From, To: to})
		return after(err, func() string {
			to.Scales = a.To.Scales // the host's
			return tensor(a.To, 0, to)
		})
	}}
}

func kmeans(a *backends.KMeans) Check {
	if a.N*a.D > wholeFit/max(1, a.K) { // whose product fits: it is a size of memory
		return Check{}
	}
	b := *a
	b.Initial, b.Progress = slices.Clone(a.Initial), nil
	b.Labels, b.Centroids, b.Counts = make([]int32, len(a.Labels)), make([]float32, len(a.Centroids)), make([]int64, len(a.Counts))
	return Check{Compare: func() string {
		err := oracle.KMeans(context.Background(), backends.Kernel{Op: backends.OpKMeans}, &b)
		return after(err, func() string {
			for i, l := range b.Labels {
				if a.Labels[i] != l {
					return fmt.Sprintf("label %d = %d and not %d", i, a.Labels[i], l)
				}
			}
			if !slices.Equal(a.Counts, b.Counts) || a.Iterations != b.Iterations || a.Converged != b.Converged {
				return fmt.Sprintf("counts, iterations or whether it converged: %d, %v and not %d, %v", a.Iterations, a.Converged, b.Iterations, b.Converged)
			}
			return first(number("the inertia", a.Inertia, b.Inertia), floats("centroids", 0, a.Centroids, b.Centroids))
		})
	}}
}
