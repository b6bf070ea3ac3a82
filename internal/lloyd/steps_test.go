// SPDX-License-Identifier: Apache-2.0

package lloyd_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/internal/lloyd"
)

// elsewhere does the steps in arrays of its own. What a step has written is spoiled in the host's arrays until it is pulled, so that a loop that reads too early goes wrong.
type elsewhere struct {
	floats map[*float32][]float32
	ints   map[*int32][]int32
	pulled int   // values of distances
	fails  error // of every pull
}

func own[E any](m map[*E][]E, host []E) []E {
	if host == nil {
		return nil
	}
	if m[&host[0]] == nil {
		m[&host[0]] = slices.Clone(host)
	}
	return m[&host[0]]
}

func (e *elsewhere) step(s *lloyd.Step) error {
	if s.N == 100 { // a mini-batch
		return cpu.Step(s)
	}
	here := *s
	here.Labels, here.Distance, here.Unit = own(e.ints, s.Labels), own(e.floats, s.Distance), own(e.floats, s.Unit)
	err := cpu.Step(&here)
	s.Changed, s.Exact, s.WeightScale = here.Changed, here.Exact, here.WeightScale
	if s.Kind == lloyd.Assign {
		for i := range s.Labels {
			s.Labels[i] = math.MaxInt32
		}
	}
	if s.Kind == lloyd.Distance || s.Kind == lloyd.Units {
		for i := range s.Distance {
			s.Distance[i] = float32(math.NaN())
		}
	}
	return err
}

func (e *elsewhere) pull(labels []int32, distance []float32) error {
	e.pulled += len(distance)
	pullPart(e.ints, labels)
	pullPart(e.floats, distance)
	return e.fails
}

func pullPart[E any](m map[*E][]E, part []E) {
	for base, copied := range m {
		host := unsafe.Slice(base, len(copied))
		for i := range host {
			if len(part) > 0 && &host[i] == &part[0] {
				copy(part, copied[i:])
			}
		}
	}
}

func (e *elsewhere) push(labels []int32, distance []float32) {
	if labels != nil {
		delete(e.ints, &labels[0])
	}
	if distance != nil {
		delete(e.floats, &distance[0])
	}
}

func problem(n, d, k int) *backends.KMeans {
	r := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, n*d)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return &backends.KMeans{X: x, N: n, D: d, K: k, Seed: 5, MaxIter: 6, Labels: make([]int32, n), Centroids: make([]float32, k*d), Counts: make([]int64, k)}
}

// The loop gives the same whether arrays are the host's or a device's, in every variant of the algorithm.
func TestArraysElsewhere(t *testing.T) {
	for variant := range 64 {
		cosine, weights, initial, batch, tol, empty := variant&1 != 0, variant&2 != 0, variant&4 != 0, variant&8 != 0, variant&16 != 0, variant&32 != 0
		var results []string
		e := &elsewhere{floats: map[*float32][]float32{}, ints: map[*int32][]int32{}}
		for _, steps := range []lloyd.Steps{{Step: cpu.Step}, {Step: e.step, Pull: e.pull, Push: e.push}} {
			a := problem(9000, 3, 8)
			a.Cosine = cosine
			if weights {
				a.Weights = make([]float32, a.N)
				for i := range a.Weights {
					a.Weights[i] = float32(i % 3)
				}
			}
			if initial {
				a.Initial = slices.Clone(a.X[:a.K*a.D])
				if empty { // a cluster that no point is nearest to
					copy(a.Initial[a.D:], []float32{1e6, 1e6, 1e6})
				}
			}
			if batch {
				a.Batch = 100
			}
			if tol {
				a.Tol = 1e-3
			}
			if err := lloyd.Run(context.Background(), a, steps); err != nil {
				t.Fatalf("variant %d: %v", variant, err)
			}
			results = append(results, fmt.Sprint(a.Labels, a.Centroids, a.Counts, a.Inertia, a.Iterations, a.Converged))
		}
		if results[0] != results[1] {
			t.Errorf("variant %d: results differ", variant)
		}
	}
}

// k-means++ on a device brings down one chunk of distances a draw, not all of them.
func TestDrawsPullOneChunk(t *testing.T) {
	e := &elsewhere{floats: map[*float32][]float32{}, ints: map[*int32][]int32{}}
	a := problem(40_000, 2, 10)
	a.MaxIter = 1
	if err := lloyd.Run(context.Background(), a, lloyd.Steps{Step: e.step, Pull: e.pull, Push: e.push}); err != nil {
		t.Fatal(err)
	}
	if most := a.N + 9*4096; e.pulled > most { // and all for the inertia
		t.Errorf("%d distances were pulled, %d would do", e.pulled, most)
	}
}

func TestPullsThatFailEndTheRun(t *testing.T) {
	e := &elsewhere{floats: map[*float32][]float32{}, ints: map[*int32][]int32{}, fails: backends.ErrLost}
	if err := lloyd.Run(context.Background(), problem(200, 2, 3), lloyd.Steps{Step: e.step, Pull: e.pull, Push: e.push}); !errors.Is(err, backends.ErrLost) {
		t.Errorf("%v", err)
	}
}

// A step that says of its iterations what cannot be is an error, not a loop without end.
func TestIterationsThatCannotBe(t *testing.T) {
	for name, lie := range map[string]func(s *lloyd.Step){
		"none":           func(s *lloyd.Step) { s.Iterations = 0 },
		"too many":       func(s *lloyd.Step) { s.Iterations++ },
		"too few":        func(s *lloyd.Step) { s.Iterations-- },
		"another reason": func(s *lloyd.Step) { s.Stopped = 4 },
	} {
		step := func(s *lloyd.Step) error {
			switch s.Kind {
			case lloyd.Iterate:
				lie(s)
				return nil
			case lloyd.Seed:
				return nil
			}
			return cpu.Step(s)
		}
		if err := lloyd.Run(context.Background(), problem(200, 2, 3), lloyd.Steps{Step: step, Iterates: true}); !errors.Is(err, backends.ErrBackend) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A kernel that has gone wrong is an error, and not the end of the program: labels are places in arrays, and sums say where a draw is.
func TestStepsThatLie(t *testing.T) {
	for name, lie := range map[string]func(s *lloyd.Step){
		"a label of K":        func(s *lloyd.Step) { s.Labels[7] = int32(s.K) },
		"a label below 0":     func(s *lloyd.Step) { s.Labels[7] = -2 },
		"no label":            func(s *lloyd.Step) { s.Labels[7] = -1 },
		"the farthest's":      func(s *lloyd.Step) { s.Labels[len(s.Labels)-1] = math.MaxInt32; s.Counts[1] = 0 },
		"a potential too big": func(s *lloyd.Step) { s.Sums[0] = math.MaxInt64 },
		"a potential below 0": func(s *lloyd.Step) { s.Sums[0] = -5 },
	} {
		const n = 50
		a := &backends.KMeans{X: make([]float32, n), N: n, D: 1, K: 2, MaxIter: 1, Labels: make([]int32, n), Centroids: make([]float32, 2), Counts: make([]int64, 2)}
		for i := range a.X {
			a.X[i] = float32(i * i)
		}
		kind := lloyd.Assign
		if strings.HasPrefix(name, "a potential") {
			kind = lloyd.Potential
		} else {
			a.Initial = []float32{0, 100}
		}
		err := lloyd.Run(context.Background(), a, lloyd.Steps{Step: func(s *lloyd.Step) error {
			if s.Kind == lloyd.Distance && s.Labels != nil { // a library does something, whatever the labels are
				for i := range s.Distance {
					s.Distance[i] = float32(i + 1)
				}
				return nil
			}
			err := cpu.Step(s)
			if s.Kind == kind && (name == "the farthest's") == (s.Counts != nil) {
				lie(s)
			}
			return err
		}})
		if !errors.Is(err, backends.ErrBackend) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Of rows that are all alike each is a centre once, lowest first where no distance is left to draw by.
func TestSeedsOfDuplicates(t *testing.T) {
	const n = 3000 // a search through all centres for each row would take n³ looks
	a := &backends.KMeans{X: make([]float32, n), N: n, D: 1, K: n, MaxIter: 1, Labels: make([]int32, n), Centroids: make([]float32, n), Counts: make([]int64, n)}
	drawn := 0
	err := lloyd.Run(context.Background(), a, lloyd.Steps{Step: func(s *lloyd.Step) error {
		if s.Kind == lloyd.Distance && s.KeepMin {
			drawn++
		}
		return cpu.Step(s)
	}})
	if err != nil || drawn != n || a.Inertia != 0 {
		t.Errorf("%d centres, inertia %v, %v", drawn, a.Inertia, err)
	}
}
