// SPDX-License-Identifier: Apache-2.0

package lloyd_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/lloyd"
)

// fits are of different sizes.
func fits(n int) (list []*backends.KMeans) {
	r := rand.New(rand.NewPCG(4, 5))
	for i := range n {
		a := &backends.KMeans{N: 10 + 3*i, D: 2, K: 3, MaxIter: 20, Seed: 1}
		a.X, a.Labels, a.Centroids, a.Counts = make([]float32, a.N*a.D), make([]int32, a.N), make([]float32, a.K*a.D), make([]int64, a.K)
		for j := range a.X {
			a.X[j] = r.Float32() + float32(i+1)
		}
		list = append(list, a)
	}
	return list
}

// fault is what a group does in place of steps of one kind: to which of them it does something, and what it says.
type fault struct {
	kind lloyd.Kind
	do   func(steps []*lloyd.Step)
	says error
}

// An error of the group is none of the fits', also where it makes no sense; what is wrong with fits is said of the first. Nothing waits for ever.
func TestTogetherFails(t *testing.T) {
	broken := errors.New("broken")
	mark := func(which ...int) func([]*lloyd.Step) {
		return func(steps []*lloyd.Step) {
			for _, i := range which {
				steps[i].Stopped = lloyd.Settled
			}
		}
	}
	nothing := func([]*lloyd.Step) {}
	for name, c := range map[string]struct {
		fault fault
		want  error
		whose int
	}{
		"broken":                {fault{lloyd.Mean, nothing, broken}, broken, -1},
		"canceled by nobody":    {fault{lloyd.Seed, nothing, context.Canceled}, backends.ErrBackend, -1},
		"not finite in no fit":  {fault{lloyd.Range, nothing, backends.ErrNonFinite}, backends.ErrBackend, -1},
		"not finite, falsely":   {fault{lloyd.Range, mark(3), backends.ErrNonFinite}, backends.ErrBackend, 3},
		"not finite, and twice": {fault{lloyd.Range, func(s []*lloyd.Step) { mark(5, 2)(s) }, backends.ErrNonFinite}, backends.ErrBackend, 2},
	} {
		calls := 0
		i, err := lloyd.Together(t.Context(), fits(7), func(int) lloyd.Steps { return lloyd.Steps{} }, func(kind lloyd.Kind, steps []*lloyd.Step) error {
			if calls++; kind == c.fault.kind {
				c.fault.do(steps)
				return c.fault.says
			}
			return nil
		})
		if i != c.whose || !errors.Is(err, c.want) || errors.Is(err, context.Canceled) {
			t.Errorf("%s: of fit %d: %v", name, i, err)
		}
		if calls > 4 {
			t.Errorf("%s: %d steps", name, calls)
		}
	}
}
