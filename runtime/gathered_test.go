// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/gputest"
)

// lists are small problems of different sizes, and what KMeans makes of each in pure Go.
func lists(t *testing.T, o KMeansOptions) (problems [][]float32, want []string) {
	t.Helper()
	pure := open(t, WithoutNative())
	for i := range 20 {
		x, _ := rays(30+i, 3, 4)
		c, err := pure.KMeans(t.Context(), nil, x, 3, o)
		if err != nil {
			t.Fatal(err)
		}
		problems, want = append(problems, x), append(want, fmt.Sprintf("%+v", *c))
	}
	return problems, want
}

func texts(list []*Clustering) (said []string) {
	for _, c := range list {
		said = append(said, fmt.Sprintf("%+v", *c))
	}
	return said
}

// A list goes to a device as one call when that is predicted to be faster than all threads with a problem each, and when nothing else may serve; not when it is not, nor in mini-batches. The
// results are the same.
func TestListsGoToADeviceThatWins(t *testing.T) {
	o := KMeansOptions{K: 4, Seed: 3, Tol: 1e-4}
	problems, want := lists(t, o)
	for _, c := range []struct {
		factor float64
		lists  int
	}{{100, 1}, {1.0 / 100, 0}} {
		rt, g := onGPU(t, c.factor) // a call takes 1 ms on the processor, however large
		got, err := rt.KMeansMany(t.Context(), nil, problems, 3, o)
		if err != nil || !slices.Equal(texts(got), want) {
			t.Fatalf("factor %v: %v", c.factor, err)
		}
		if g.Lists != c.lists || g.Calls != 0 {
			t.Errorf("factor %v: %d lists and %d other calls on the device", c.factor, g.Lists, g.Calls)
		}
		batch := o
		batch.Batch, batch.MaxIter = 10, 3
		if _, err := rt.KMeansMany(t.Context(), nil, problems, 3, batch); err != nil || g.Lists != c.lists {
			t.Errorf("mini-batches: %v, %d lists", err, g.Lists)
		}
		big, _ := rays(worthThreads/4/3+1, 3, 4) // more than a processor's share: any kernel may do it
		calls := g.Calls
		if _, err := rt.KMeansMany(t.Context(), nil, append(problems[:len(problems):len(problems)], big), 3, batch); err != nil || (g.Calls-calls == 1) != (c.factor > 1) {
			t.Errorf("mini-batches of one large problem: %v, %d calls on the device", err, g.Calls-calls)
		}
		if _, err := rt.KMeansMany(t.Context(), got, problems[:1], 3, o); !errors.Is(err, ErrShape) {
			t.Errorf("too many results: %v", err)
		}
		if used, err := rt.KMeansMany(t.Context(), got, problems, 3, o); err != nil || !slices.Equal(texts(used), want) || used[5] != got[5] {
			t.Errorf("used again: %v", err)
		}
	}
}

// When the device fails or says wrong things, the processor does the whole list; what is wrong with a problem itself is said.
func TestListsFallBack(t *testing.T) {
	o := KMeansOptions{K: 4, Seed: 3}
	problems, want := lists(t, o)
	for _, fault := range []error{backends.ErrBackend, backends.ErrUnsupported, backends.ErrMemory, backends.ErrLost} {
		rt, g := onGPU(t, 100)
		g.Fails = fault
		got, err := rt.KMeansMany(t.Context(), nil, problems, 3, o)
		if err != nil || !slices.Equal(texts(got), want) || g.Lists != 1 {
			t.Errorf("%v: %v, %d lists", fault, err, g.Lists)
		}
	}
	rt, g := onGPU(t, 100)
	broken := slices.Clone(problems)
	broken[7] = slices.Clone(broken[7])
	broken[7][4] = float32(math.NaN())
	if _, err := rt.KMeansMany(t.Context(), nil, broken, 3, o); !errors.Is(err, ErrNonFinite) || !strings.HasPrefix(err.Error(), "problem 7: ") || g.Lists != 1 {
		t.Errorf("%v, %d lists", err, g.Lists)
	}
	o.SkipNonFinite = true
	if got, err := rt.KMeansMany(t.Context(), nil, broken, 3, o); err != nil || got[7].Skipped != 1 || fmt.Sprintf("%+v", *got[6]) != want[6] {
		t.Errorf("with points left out: %v", err)
	}
	o.K = 40 // more than some have
	if _, err := rt.KMeansMany(t.Context(), nil, problems, 3, o); !errors.Is(err, ErrArgument) || !strings.HasPrefix(err.Error(), "problem 0: ") {
		t.Errorf("more clusters than points: %v", err)
	}
}

// A backend that wraps another one has the kernels of that, and not its way to do many problems: it is asked for one at a time.
func TestListsOfAWrappedBackend(t *testing.T) {
	o := KMeansOptions{K: 4, Seed: 3}
	problems, want := lists(t, o)
	g := gputest.New()
	rt := open(t, WithoutNative(), WithoutLearning(), WithBackend(struct{ backends.Backend }{g}))
	prefer(t, rt, 100)
	if got, err := rt.KMeansMany(t.Context(), nil, problems, 3, o); err != nil || !slices.Equal(texts(got), want) || g.Lists != 0 {
		t.Errorf("%v, %d lists", err, g.Lists)
	}
}

// What a list took is told for an iteration of all its points, of which fits that end sooner have fewer.
func TestIterationsOfLists(t *testing.T) {
	list := &backends.KMeansMany{Fits: []*backends.KMeans{{N: 100, Iterations: 2}, {N: 300, Iterations: 10}, {N: 100, Iterations: 6}}}
	if n, v := iterationsOfAll(list, 3); n != 8 || v != 3 { // 3800 / 500
		t.Errorf("%d iterations, variant %d", n, v)
	}
}
