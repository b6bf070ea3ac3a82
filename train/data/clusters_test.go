// SPDX-License-Identifier: Apache-2.0

package data

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	setun "github.com/setun-compute/setun/runtime"
)

func open(t testing.TB) *setun.Runtime {
	t.Helper()
	rt, err := setun.Open(setun.WithoutNative(), setun.WithProfile("none"), setun.WithoutLearning())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt
}

// mixture is a text of three kinds: one letter over and over, words, and noise of digits and capitals, two, three and one part of six.
func mixture() (tokens []int32, ends [2]int) {
	r := rand.New(rand.NewPCG(5, 6))
	words := strings.Fields("the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were her all she there would their we him been has when who will more")
	var b []byte
	for len(b) < 6400 {
		b = append(b, 'z')
	}
	ends[0] = len(b)
	for len(b) < 16000 {
		b = append(append(b, words[r.IntN(len(words))]...), ' ')
	}
	b = b[:16000]
	ends[1] = len(b)
	for len(b) < 19201 {
		b = append(b, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[r.IntN(36)])
	}
	tokens, _ = Bytes().Encode(nil, b)
	return tokens, ends
}

func TestEmbed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a, b := make([]float32, Dim), make([]float32, Dim)
	for range 500 {
		w := make([]int32, r.IntN(60))
		for i := range w {
			w[i] = int32(r.IntN(300))
		}
		Embed(a, w)
		square := 0.0
		for _, v := range a {
			square += float64(v) * float64(v)
		}
		if math.Abs(square-1) > 1e-6 {
			t.Fatalf("%v: norm² %v", w, square)
		}
		Embed(b, slices.Clone(w))
		if !slices.Equal(a, b) {
			t.Fatal("not a function of the window")
		}
	}
	if Embed(a, nil); a[0] != 1 || slices.Max(a[1:]) != 0 || slices.Min(a[1:]) != 0 {
		t.Error(a)
	}
}

// TestClustersFindKinds: the three kinds of text come apart, the dullest first, with a given K and with SuggestK's.
func TestClustersFindKinds(t *testing.T) {
	rt := open(t)
	tokens, ends := mixture()
	kind := func(at int) int {
		switch {
		case at+64 <= ends[0]:
			return 0
		case at+64 <= ends[1]:
			return 1
		}
		return 2
	}
	for _, k := range []int{3, 0} {
		c, err := Cluster(t.Context(), rt, tokens, 256, ClusterOptions{Context: 64, K: k, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if k == 3 && (c.K != 3 || cmp.Diff([]int{100, 150, 50}, c.Counts) != "") {
			t.Errorf("%d clusters of %v windows", c.K, c.Counts)
		}
		if !slices.IsSorted(c.Difficulty) || k == 3 && c.Difficulty[0] > 0.1 || c.Difficulty[c.K-1] < 3 {
			t.Errorf("difficulties %v", c.Difficulty)
		}
		total := 0
		for g := range c.K {
			w := c.Windows(g)
			if !slices.IsSorted(w) || len(w) == 0 {
				t.Errorf("%v", w)
			}
			total += len(w)
			for _, at := range w {
				if kind(at) != kind(w[0]) && (k == 3 || kind(at) == 2 || kind(w[0]) == 2) { // SuggestK says 2: two criteria each are for 2 and 3
					t.Errorf("K = %d: cluster %d has windows at %d and %d", k, g, w[0], at)
					break
				}
			}
		}
		if total != 300 || c.Windows(-1) != nil || c.Windows(c.K) != nil {
			t.Errorf("%d windows", total)
		}
	}
}

func TestBatchesOfClusters(t *testing.T) {
	rt := open(t)
	tokens, ends := mixture()
	c, err := Cluster(t.Context(), rt, tokens, 256, ClusterOptions{Context: 64, K: 3, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	count := func(o SamplerOptions, step uint64) (n [3]int) {
		o.Context, o.Batch, o.Clusters = 64, 12, c
		s, err := NewSampler(tokens, o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 12 {
			at := s.Start(step, i)
			if at < 0 || at+64 >= len(tokens) || o.Jitter == 0 && at%64 != 0 {
				t.Fatal(at)
			}
			switch {
			case at < ends[0]:
				n[0]++
			case at < ends[1]:
				n[1]++
			default:
				n[2]++
			}
		}
		in, out := s.Batch(step, nil, nil)
		if in[0] != tokens[s.Start(step, 0)] || out[63] != tokens[s.Start(step, 0)+64] {
			t.Fatal("the batch is not that of its starts")
		}
		return n
	}
	for step := range uint64(50) {
		for _, x := range []struct {
			o    SamplerOptions
			want [3]int
		}{
			{SamplerOptions{}, [3]int{4, 6, 2}}, // 100, 150 and 50 windows
			{SamplerOptions{Order: RoundRobin}, [3]int{4, 4, 4}},
			{SamplerOptions{Order: RoundRobin, Ramp: 60}, [3]int{12, 0, 0}},
			{SamplerOptions{Order: RoundRobin, Ramp: 60, First: 0.67}, [3]int{6, 6, 0}},
			{SamplerOptions{Ramp: 60, First: 0.67}, [3]int{5, 7, 0}},
			{SamplerOptions{Ramp: 10, First: 1}, [3]int{4, 6, 2}},
		} {
			got := count(x.o, step)
			if x.o.Ramp == 60 && x.o.First == 0 && step >= 40 {
				x.want = [3]int{6, 6, 0} // two thirds of the way two of three
			} else if x.o.Ramp == 60 && x.o.First == 0 && step >= 38 {
				continue
			}
			if got != x.want && !(x.o.Ramp == 60 && x.o.First > 0 && x.o.Order == Proportional && got == [3]int{4, 8, 0}) {
				t.Fatalf("step %d, %+v: %v, want %v", step, x.o, got, x.want)
			}
		}
		if got := count(SamplerOptions{Order: RoundRobin, Ramp: 40}, step+40); got != [3]int{4, 4, 4} {
			t.Fatalf("after the ramp: %v", got)
		}
		count(SamplerOptions{Jitter: 63}, step)
	}
}

func TestClustersAreTheSameForAnyNumberOfThreads(t *testing.T) {
	rt := open(t)
	tokens, _ := mixture()
	var want *Clusters
	for _, procs := range []int{1, 2, 4} {
		old := runtime.GOMAXPROCS(procs)
		got, err := Cluster(t.Context(), rt, tokens, 256, ClusterOptions{Context: 32, K: 5, Seed: 9})
		runtime.GOMAXPROCS(old)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		} else if d := cmp.Diff(want, got, cmp.AllowUnexported(Clusters{})); d != "" {
			t.Errorf("%d threads: %s", procs, d)
		}
	}
}

// TestDifficulty against counts by hand, and with hashed pairs.
func TestDifficulty(t *testing.T) {
	tokens := []int32{0, 1, 0, 1, 0, 2, 2, 2, 2}
	got, err := difficulties(tokens, []int{0, 4}, 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	// n(0)=3, n(1)=2, n(2)=3 as firsts of pairs; 01: 2, 10: 2, 02: 1, 22: 3
	want := []float64{(2*math.Log(6./3) + 2*math.Log(5./3)) / 4, (math.Log(6./2) + 3*math.Log(6./4)) / 4}
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-14 {
			t.Errorf("window %d: %v, want %v", i, got[i], want[i])
		}
	}
	large, err := difficulties(tokens, []int{0, 4}, 4, 100_000)
	if err != nil || !(large[0] > got[0]) {
		t.Error(large, err)
	}
}

func TestBadClusters(t *testing.T) {
	rt := open(t)
	tokens, _ := mixture()
	for i, c := range []struct {
		tokens []int32
		vocab  int
		o      ClusterOptions
		want   error
	}{
		{nil, 256, ClusterOptions{Context: 4}, ErrEmpty},
		{tokens[:4], 256, ClusterOptions{Context: 4}, ErrShort},
		{tokens, 256, ClusterOptions{}, ErrArgument},
		{tokens, 0, ClusterOptions{Context: 4}, ErrArgument},
		{tokens, 256, ClusterOptions{Context: 4, K: -1}, ErrArgument},
		{tokens, 256, ClusterOptions{Context: 4, Most: -1}, ErrArgument},
		{tokens, 256, ClusterOptions{Context: 64, K: 1000}, ErrArgument},
		{tokens, 100, ClusterOptions{Context: 64, K: 2}, ErrUnknown},
	} {
		if _, err := Cluster(t.Context(), rt, c.tokens, c.vocab, c.o); !errors.Is(err, c.want) {
			t.Errorf("case %d: %v", i, err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := Cluster(ctx, rt, tokens, 256, ClusterOptions{Context: 64, K: 2}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := Cluster(t.Context(), nil, tokens, 256, ClusterOptions{Context: 64, K: 2}); !errors.Is(err, ErrArgument) {
		t.Error(err)
	}
	// Of another text, or of shorter windows.
	good, err := Cluster(t.Context(), rt, tokens, 256, ClusterOptions{Context: 64, K: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSampler(tokens[1:], SamplerOptions{Context: 64, Batch: 1, Clusters: good}); !errors.Is(err, ErrArgument) {
		t.Error(err)
	}
	if _, err := NewSampler(tokens, SamplerOptions{Context: 65, Batch: 1, Clusters: good}); !errors.Is(err, ErrArgument) {
		t.Error(err)
	}
	// A text all of one token has one kind of window.
	same, err := Cluster(t.Context(), rt, make([]int32, 1000), 256, ClusterOptions{Context: 10, K: 4})
	if err != nil || same.K < 1 || same.K > 4 {
		t.Error(same, err)
	}
	if one, err := Cluster(t.Context(), rt, make([]int32, 11), 256, ClusterOptions{Context: 10}); err != nil || one.K != 1 {
		t.Error(one, err)
	}
}
