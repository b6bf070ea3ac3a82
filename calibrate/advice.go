// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
)

// advice is one thing that would make this machine faster.
type advice struct {
	Text  string `json:"text"`
	Gains []gain `json:"gains,omitempty"` // what it is expected to bring, from what is known of kernels of that kind; calibrate run measures it
}

// gain is what a library that is not there would bring to an op.
type gain struct {
	Op    string  `json:"op"`
	From  string  `json:"from"`  // the least shape from which it is expected to win
	At    string  `json:"at"`    // a large shape,
	Times float64 `json:"times"` // at which calls would be so many times as fast
}

// library is one that may be missing, with the kernels that it would have here.
type library struct {
	name, how string
	arms      map[backends.Op][]dispatch.Arm
}

// libraries are those that would do something on this machine. The BLAS serves calls that ask for fast numerics.
func libraries(r runtime.Report) []library {
	c := library{"simd_c", "build the C library: make native", map[backends.Op][]dispatch.Arm{}}
	cpp := library{"cpp", fmt.Sprintf("build the threaded library, for %d cores: make native", r.Machine.Cores), map[backends.Op][]dispatch.Arm{}}
	blas := library{"blas", "install a BLAS, for products that may use fast numerics: libopenblas0-pthread on Debian, openblas elsewhere",
		map[backends.Op][]dispatch.Arm{backends.OpMatMul: {{Backend: "blas", Kernel: "openblas", Threads: r.Machine.Cores, Fast: true}}}}
	for _, op := range backends.Ops() {
		for _, l := range r.ISA {
			if !l.Available || lacks(l.Name, op) {
				continue
			}
			c.arms[op] = append(c.arms[op], dispatch.Arm{Backend: c.name, Kernel: l.Name})
			if n := r.Machine.Cores; n > 1 {
				cpp.arms[op] = append(cpp.arms[op], dispatch.Arm{Backend: cpp.name, Kernel: fmt.Sprintf("%sx%d", l.Name, n), Threads: n})
			}
		}
	}
	return []library{c, cpp, blas}
}

// lacks says that a level has no kernel of its own for an op: those with products of bytes are for k-means and packed codes, those with permutations of bytes for packed codes.
func lacks(level string, op backends.Op) bool {
	codes := op == backends.OpTernary || op == backends.OpRecode
	return level == "avx512vnni" && op != backends.OpKMeans && !codes || (level == "avx512vbmi" || level == "neondot") && !codes
}

// ladder are shapes of an op from the smallest to a large one, doubling; of calls that ask for fast numerics or not.
func ladder(op backends.Op, fast bool) (shapes []dispatch.Shape) {
	for e := range 23 {
		n := 1 << e
		switch op {
		case backends.OpQuantize:
			shapes = append(shapes, dispatch.Quantize(n, quant.Options{}.WithDefaults(n)))
		case backends.OpStep:
			shapes = append(shapes, dispatch.Step(n, quant.Options{}.WithDefaults(n)))
		case backends.OpKMeans:
			if n >= 64 && e <= 18 {
				shapes = append(shapes, dispatch.KMeans(n, 64, 64))
			}
		case backends.OpMatMul:
			if e <= 11 {
				s := dispatch.MatMul(n, n, n, 1)
				s.Fast = fast
				shapes = append(shapes, s)
			}
		case backends.OpRecode:
			shapes = append(shapes, recode(n, quant.Bits2, quant.Int8).shape)
		case backends.OpActivations:
			shapes = append(shapes, dispatch.Activations(n, 1))
		case backends.OpTernary:
			if e <= 13 {
				shapes = append(shapes, ternary(n, n, 1, quant.Bits2).shape)
			}
		case backends.OpClusters:
			shapes = append(shapes, dispatch.Clusters(n, 1+n/1024))
		case backends.OpRMSNorm, backends.OpSoftmax, backends.OpActivate, backends.OpUpdate:
			shapes = append(shapes, rowJobs(op, n, false)[0].shape)
		default:
			shapes = append(shapes, dispatch.Vector(op, n))
		}
	}
	return shapes
}

// advise says what would make this machine faster, and what it is expected to bring.
func advise(rt *runtime.Runtime) ([]advice, error) {
	r := rt.Report()
	var list []advice
	have := map[backends.Op][]dispatch.Arm{} // with those advised already
	for _, op := range backends.Ops() {
		have[op] = slices.Clone(rt.Arms(op))
	}
	for _, l := range libraries(r) {
		if slices.ContainsFunc(r.Backends, func(b runtime.BackendReport) bool {
			return b.Name == l.name && b.State == "loaded" && len(b.Kernels) > 0
		}) {
			continue
		}
		gains, err := expect(r, rt.Router(), have, l.arms)
		if err != nil {
			return nil, err
		}
		if len(gains) > 0 {
			list = append(list, advice{l.how, gains})
		}
	}
	if r.Profile.State != "loaded" {
		list = append(list, advice{Text: "measure this machine, so that calls go where they are fastest: calibrate run"})
	}
	return list, nil
}

// worth is by how much a library has to be faster to be advised.
const worth = 1.1

// expect compares the fastest kernels without and with those of a library, op by op, and adds them to those that there are.
func expect(r runtime.Report, router *dispatch.Router, have, more map[backends.Op][]dispatch.Arm) ([]gain, error) {
	without, err := hypothetical(r, router, have)
	if err != nil {
		return nil, err
	}
	for op, arms := range more {
		have[op] = append(have[op], arms...)
	}
	with, err := hypothetical(r, router, have)
	if err != nil {
		return nil, err
	}
	var gains []gain
	for _, op := range backends.Ops() {
		shapes := ladder(op, slices.ContainsFunc(more[op], func(a dispatch.Arm) bool { return a.Fast }))
		first := len(shapes)
		times := 0.0
		for i := len(shapes) - 1; i >= 0; i-- {
			t := without.Decide(&shapes[i], 0).Nanos / with.Decide(&shapes[i], 0).Nanos
			if i == len(shapes)-1 {
				times = t
			}
			if !(t > worth) {
				break
			}
			first = i
		}
		if first < len(shapes) {
			gains = append(gains, gain{op.String(), shapes[first].String(), shapes[len(shapes)-1].String(), math.Round(10*times) / 10})
		}
	}
	return gains, nil
}

// hypothetical is a router with models of the real one for the arms that it has, and prior knowledge of the others.
func hypothetical(r runtime.Report, real *dispatch.Router, arms map[backends.Op][]dispatch.Arm) (*dispatch.Router, error) {
	p := &dispatch.Profile{}
	for op := range arms {
		for i, a := range real.Arms(op) {
			p.Set(op, a, real.Model(op, i))
		}
	}
	return dispatch.Hardware{Cores: r.Machine.Cores, L3: r.Machine.L3}.NewRouter(arms, p, dispatch.Policy{})
}
