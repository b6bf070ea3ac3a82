// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
)

// largest returns the largest vector of the grid: 64 MiB of float32 in a quick run, 256 MiB in a full one, beyond any cache.
func largest(quick bool) int {
	if quick {
		return 1 << 24
	}
	return 1 << 26
}

// matmul is a job that fast kernels run too.
func matmul(m, n, k, batch int) job {
	s := dispatch.MatMul(m, n, k, batch)
	s.Fast = true
	return job{shape: s}
}

// kmeans is a job that fast kernels run too.
func kmeans(n, d, k int) job {
	s := dispatch.KMeans(n, d, k)
	s.Fast = true
	return job{shape: s}
}

// ternary is a job of multiplying rows of activations by a matrix of codes, one scale for all.
func ternary(rows, cols, batch int, f quant.Format) job {
	levels := quant.Ternary
	if f == quant.Four5 {
		levels = quant.Sparse
	}
	w := &quant.Tensor{Rows: rows, Cols: cols, Levels: levels, Format: f}
	s := dispatch.Ternary(w, batch)
	if f == quant.Planes { // of codes of which a third is 0, as the measured ones
		s.Out += int64(rows) * int64((2*cols/3+7)/8)
	}
	return job{shape: s, opts: quant.Options{Levels: levels, Format: f, Cols: cols}}
}

// recode is a job of turning codes into another format, rows of 4096 if there are as many.
func recode(n int, from, to quant.Format) job {
	levels := quant.Ternary
	if from == quant.Four5 {
		levels = quant.Sparse
	}
	cols := min(n, 4096)
	return job{shape: dispatch.Recode(&quant.Tensor{Rows: n / cols, Cols: cols, Levels: levels, Format: from}, to), opts: quant.Options{Levels: levels, Format: from, Cols: cols}, to: to}
}

// grid lists the jobs of a calibration for one op.
func grid(op backends.Op, quick bool) []job {
	step := 1
	if quick {
		step = 2
	}
	var jobs []job
	sizes := func(from, to, by int) (list []int) {
		for e := from; e <= to; e += by {
			list = append(list, 1<<e)
		}
		return list
	}
	top := 26
	if quick {
		top = 24
	}
	switch op {
	case backends.OpClusters:
		for _, n := range sizes(4, top-2, step) {
			jobs = append(jobs, job{shape: dispatch.Clusters(n, max(1, n/1024))})
		}
	case backends.OpStep:
		for _, n := range sizes(4, top-2, step) {
			o := quant.Options{}.WithDefaults(n)
			jobs = append(jobs, job{shape: dispatch.Step(n, o), opts: o})
		}
	case backends.OpQuantize:
		add := func(n int, o quant.Options) {
			o = o.WithDefaults(n)
			jobs = append(jobs, job{shape: dispatch.Quantize(n, o), opts: o})
		}
		for _, n := range sizes(4, top, step) {
			add(n, quant.Options{})
		}
		for e := top - 2; e >= 8; e -= 4 * step { // the largest of all: groups pay for threads later than one scale, and a profile that has not seen it has to guess
			n := 1 << e
			add(n, quant.Options{Format: quant.Bits2})
			add(n, quant.Options{Group: 128})
			add(n, quant.Options{Rule: quant.LeastSquares})
			add(n, quant.Options{Rule: quant.LeastSquares, Group: 128})
		}
		for _, n := range sizes(4, top-6, 4) {
			add(n, quant.Options{Rule: quant.Stochastic})
		}
	case backends.OpKMeans:
		add := func(n int, dims, clusters []int) {
			for _, d := range dims {
				for _, k := range clusters {
					if k < n && n*d <= largest(quick) && (!quick || n*d*k <= 1<<29) {
						jobs = append(jobs, kmeans(n, d, k))
					}
				}
			}
		}
		for _, n := range []int{100, 1000, 10_000, 100_000} {
			add(n, []int{4, 32, 256}, []int{4, 32, 256})
		}
		for _, n := range []int{300, 3000, 30_000} { // as large as those in all, but of another form
			add(n, []int{12, 100}, []int{10, 60})
		}
		for _, n := range sizes(10, 16, step) { // where kernels screen
			add(n, []int{96}, []int{128, 1024})
		}
	case backends.OpMatMul:
		add := func(m, n, k, batch int) { jobs = append(jobs, matmul(m, n, k, batch)) }
		for e := 0; e <= top-14; e += step { // square ones up to 4096
			add(1<<e, 1<<e, 1<<e, 1)
		}
		for e := 2; e <= top-14; e += step { // one row, as a model answers
			add(1, 1<<e, 1<<e, 1)
		}
		for e := 5; e <= top-16; e += 2 * step { // few rows
			add(4, 1<<e, 1<<e, 1)
		}
		for _, k := range []int{64, 1024} { // flat and deep ones; a batch
			add(1, 1024, k, 1)
			add(8, 1024, k, 1)
			add(256, 1024, k, 1)
			add(64, 64, k, 1)
			add(64, 64, k, 8)
		}
	case backends.OpActivations:
		for _, n := range sizes(4, top-4, step) {
			jobs = append(jobs, job{shape: dispatch.Activations(n, 1)})
		}
		for _, n := range sizes(10, top-4, 4*step) {
			jobs = append(jobs, job{shape: dispatch.Activations(n, n/256)})
		}
	case backends.OpRecode:
		for e := 6; e <= top-2; e += step {
			jobs = append(jobs, recode(1<<e, quant.Bits2, quant.Int8))
		}
		for _, f := range []quant.Format{quant.Bits2, quant.Base3, quant.Four5, quant.Planes} {
			for e := 8; e <= top-2; e += 4 {
				if f != quant.Bits2 {
					jobs = append(jobs, recode(1<<e, f, quant.Int8))
				}
				jobs = append(jobs, recode(1<<e, f, quant.Base3))
			}
		}
	case backends.OpTernary:
		for e := 2; e <= top/2; e += step { // square matrices and one row, as a model answers
			jobs = append(jobs, ternary(1<<e, 1<<e, 1, quant.Bits2))
			if e > 3 && e%2 == 0 {
				jobs = append(jobs, ternary(1<<e, 1<<e, 16, quant.Bits2))
			}
		}
		for _, f := range []quant.Format{quant.Int8, quant.Base3, quant.Four5, quant.Planes} {
			for e := 4; e <= top/2; e += 2 * step {
				jobs = append(jobs, ternary(1<<e, 1<<e, 1, f))
			}
		}
		for _, cols := range []int{256, 4096} {
			jobs = append(jobs, ternary(16, cols, 1, quant.Bits2), ternary(1<<18/cols, cols, 4, quant.Bits2))
		}
	case backends.OpRMSNorm, backends.OpSoftmax, backends.OpActivate, backends.OpUpdate:
		for i, n := range sizes(4, top-4, step) {
			jobs = append(jobs, rowJobs(op, n, i%3 == 2)...)
		}
	default:
		for _, n := range sizes(4, top, step) {
			jobs = append(jobs, job{shape: dispatch.Vector(op, n)})
		}
		if op == backends.OpConstrain { // inside the ball, in place
			for _, n := range sizes(4, top, 2*step) {
				s := dispatch.Vector(op, n)
				s.Variant = dispatch.Inside
				jobs = append(jobs, job{shape: s})
			}
		}
	}
	return jobs
}
