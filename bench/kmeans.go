// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/canon"
	"github.com/setun-compute/setun/internal/lloyd"
	"github.com/setun-compute/setun/internal/plugin"
	setun "github.com/setun-compute/setun/runtime"
)

// kmeans is a case: Lloyd's algorithm from the first k rows, a fixed number of iterations.
type kmeans struct{ n, d, k, iterations int }

// figures of a case; work is that of the scores.
func (m kmeans) figures() []figure {
	work := 2 * float64(m.n) * float64(m.d) * float64(m.k)
	return []figure{{figureFit, work, "GFLOP/s"}, {figureIteration, work, "GFLOP/s"}, {figureAssign, work, "GFLOP/s"}, {figureUpdate, 4 * float64(m.n) * float64(m.d), "GB/s"}}
}

// clustered is the case of rows about k centres: centres and noise both standard normal. Only kernels of ours take part, each with all threads: it
// shows what screening saves, and the note what share of the scores was exact.
func (m kmeans) clustered(quick bool) *bench {
	return &bench{op: "kmeans clustered", shape: fmt.Sprintf("%dx%dx%d", m.n, m.d, m.k), values: m.n * m.d, quick: quick, figures: m.figures(),
		contenders: func(e *env) ([]*contender, func(), error) {
			x, r := pages[float32](m.n*m.d), rand.New(rand.NewPCG(3, 4))
			centres := slices.Clone(e.x[:m.k*m.d])
			for i := range m.n {
				c := centres[r.IntN(m.k)*m.d:][:m.d]
				for p, v := range e.x[i*m.d:][:m.d] {
					x[i*m.d+p] = v + c[p]
				}
			}
			all := *e
			all.arms, all.least = true, e.threads
			return all.ours(backends.OpKMeans, func(rt *setun.Runtime) (func() (times, error), error) { return m.ours(rt, x) })
		}}
}

func (m kmeans) bench(quick bool) *bench {
	return &bench{op: "kmeans", shape: fmt.Sprintf("%dx%dx%d", m.n, m.d, m.k), values: m.n * m.d, quick: quick, contenders: m.contenders, figures: m.figures()}
}

// start is the case of k-means++ alone. It takes k passes over the points, so it is one by itself.
func (m kmeans) start(quick bool) *bench {
	return &bench{op: "kmeans++", shape: fmt.Sprintf("%dx%dx%d", m.n, m.d, m.k), values: m.n * m.d, quick: quick, figures: []figure{{figureCall, 0, ""}},
		contenders: func(e *env) ([]*contender, func(), error) {
			x := e.x[:m.n*m.d]
			cs, done, err := e.ours(backends.OpKMeans, func(rt *setun.Runtime) (func() (times, error), error) {
				return func() (times, error) {
					seeded, err := m.first(rt, x, nil)
					if err != nil {
						return nil, err
					}
					given, err := m.first(rt, x, x[:m.k*m.d])
					return times{figureCall: float64(seeded - given)}, err
				}, nil
			})
			if err != nil {
				return nil, nil, err
			}
			return append(cs, m.peers(e, "start %d %d %d", m.n, m.d, m.k)...), done, nil
		}}
}

// peers are those that have k-means.
func (m kmeans) peers(e *env, request string, args ...any) (cs []*contender) {
	if e.sklearn != nil {
		c := e.asks("scikit-learn", e.sklearn, request, args...)
		c.less = 1e-6
		cs = append(cs, c)
	}
	if e.faiss != nil {
		cs = append(cs, e.asks("FAISS", e.faiss, request, args...))
	}
	return cs
}

func (m kmeans) contenders(e *env) ([]*contender, func(), error) {
	x := e.x[:m.n*m.d]
	cs, done, err := e.ours(backends.OpKMeans, func(rt *setun.Runtime) (func() (times, error), error) { return m.ours(rt, x) })
	if err != nil {
		return nil, nil, err
	}
	cs = append(cs, m.peers(e, "kmeans %d %d %d %d", m.n, m.d, m.k, m.iterations)...)
	return append(cs, e.peak(2*float64(m.n)*float64(m.d)*float64(m.k), figureIteration, figureAssign)...), done, nil
}

// ours times a fit, by what Progress tells also an iteration within it, then the labels alone.
func (m kmeans) ours(rt *setun.Runtime, x []float32) (func() (times, error), error) {
	step, err := steps(rt.Explain(dispatch.KMeans(m.n, m.d, m.k)).Chosen)
	if err != nil {
		return nil, err
	}
	fitted, one := new(setun.Clustering), m.labels(x)
	return func() (times, error) {
		var at []time.Duration
		begin := time.Now()
		c, err := rt.KMeans(context.Background(), fitted, x, m.d, setun.KMeansOptions{K: m.k, MaxIter: m.iterations, Centroids: x[:m.k*m.d],
			Progress: func(int, int64) { at = append(at, time.Since(begin)) }})
		fit := time.Since(begin)
		if err != nil {
			return nil, err
		}
		if c.Iterations != m.iterations {
			return nil, fmt.Errorf("stopped after %d iterations", c.Iterations)
		}
		last := len(at) - 1
		t := times{figureFit: float64(fit) / float64(m.iterations), figureIteration: float64(at[last]-at[0]) / float64(last), figureInertia: c.Inertia}
		m.place(one, c.Centroids)
		begin = time.Now()
		if err := step(one); err != nil {
			return nil, err
		}
		t[figureAssign] = float64(time.Since(begin))
		t[figureExact] = float64(one.Exact) / (float64(m.n) * float64(m.k))
		t[figureUpdate] = t[figureIteration] - t[figureAssign]
		return t, nil
	}, nil
}

// first is the time from the start to the end of the first iteration's labels, from given centroids or with k-means++; the fit is ended there.
func (m kmeans) first(rt *setun.Runtime, x, centroids []float32) (took time.Duration, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	begin := time.Now()
	_, err = rt.KMeans(ctx, nil, x, m.d, setun.KMeansOptions{K: m.k, MaxIter: 2, Seed: 1, Centroids: centroids, Progress: func(int, int64) {
		if took == 0 {
			took = time.Since(begin)
		}
		cancel()
	}})
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return took, err
}

// labels is the step that labels every row, about the mean 0; place gives it centroids.
func (m kmeans) labels(x []float32) *lloyd.Step {
	return &lloyd.Step{Kind: lloyd.Assign, X: x, N: m.n, D: m.d, K: m.k, Mean: make([]float32, m.d), Bias: make([]float32, m.k), Labels: make([]int32, m.n)}
}

// place gives a step its centroids.
func (m kmeans) place(s *lloyd.Step, centroids []float32) {
	s.Centroids = centroids
	for j := range s.Bias {
		s.Bias[j] = float32(-0.5 * canon.SumSquares(s.Centroids[j*m.d:][:m.d]))
	}
}

// steps finds the steps of a kernel by its name, "simd_c/avx2".
func steps(arm string) (lloyd.Func, error) {
	backend, kernel, _ := strings.Cut(arm, "/")
	if backend == "cpu" {
		return cpu.Step, nil
	}
	b, _ := plugin.Load(backend, plugin.DefaultPlaces(nil)) // loaded already: this is another handle
	if b == nil {
		return nil, fmt.Errorf("%s: not found a second time", arm)
	}
	for _, k := range b.Kernels() {
		if k.Op == backends.OpKMeans && k.Name == kernel {
			return b.Steps(k, arm), nil
		}
	}
	return nil, fmt.Errorf("%s has no k-means", arm)
}
