// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

func ExampleRuntime_ConstrainClusters() {
	rt, err := Open(WithoutNative(), WithProfile("none"))
	if err != nil {
		log.Fatal(err)
	}
	defer rt.Close()
	step := []float32{3, 4, 0.6, 0.8, 6, 8} // three rows of two values
	c := Clusters{Labels: []int32{0, 1, -1}, Radii: []float64{1, 1}}
	out, err := rt.ConstrainClusters(nil, step, &c)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.2f, norms %.2f\n", out, c.Norms)
	// Output: [0.60 0.80 0.60 0.80 6.00 8.00], norms [5.00 1.00]
}

func ExampleRuntime_Step() {
	rt, err := Open(WithoutNative(), WithProfile("none"))
	if err != nil {
		log.Fatal(err)
	}
	defer rt.Close()
	params, delta := []float32{1, -1, 0.1, 0}, []float32{3, 0, 0, 4}
	q, norm, err := rt.Step(nil, params, delta, 1, quant.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("moved by 1 of %v to %.2f: codes %d, scale %.3f\n", norm, params, q.Codes, q.Scales[0])
	// Output: moved by 1 of 5 to [1.60 -1.00 0.10 0.80]: codes [1 -1 0 1], scale 0.875
}

// both runs a test in pure Go and with the native libraries.
func both(t *testing.T, test func(t *testing.T, rt *Runtime)) {
	t.Run("go", func(t *testing.T) { test(t, open(t, WithoutNative())) })
	t.Run("native", func(t *testing.T) { test(t, open(t, libraries(t), WithForce("simd_c"))) })
}

// A step is constrain, add and quantize: by ==, whatever the kernel.
func TestStepIsItsThreeCalls(t *testing.T) {
	both(t, func(t *testing.T, rt *Runtime) {
		for _, n := range []int{1, 100, 4097, 200_000} {
			for _, w := range []float64{0, 1, math.Inf(1)} {
				for _, o := range []quant.Options{{}, {Format: quant.Base3}, {Rule: quant.Stochastic, Seed: 3}, {Levels: quant.Quinary}, {Group: min(n, 64), Format: quant.Bits2}, {Rule: quant.AbsMax}} {
					params, delta := ramp(n), ramp(n)
					slices.Reverse(delta)
					moved, norm, err := rt.Constrain(nil, delta, w)
					if err != nil {
						t.Fatal(err)
					}
					for i, v := range moved {
						moved[i] = params[i] + v
					}
					want, err := rt.Quantize(nil, moved, o)
					if err != nil {
						t.Fatal(err)
					}
					q, got, err := rt.Step(nil, params, delta, w, o)
					if err != nil || got != norm || !slices.Equal(params, moved) || !slices.Equal(q.Codes, want.Codes) || !slices.Equal(q.Packed, want.Packed) || !slices.Equal(q.Scales, want.Scales) {
						t.Errorf("n=%d radius=%v %+v: norm %v, not %v, or other bits; %v", n, w, o, got, norm, err)
					}
				}
			}
		}
	})
}

// Segments are Constrain on each slice, by ==.
func TestSegmentsAreTheirSlices(t *testing.T) {
	both(t, func(t *testing.T, rt *Runtime) {
		x := ramp(20_000)
		c := Clusters{Offsets: []int64{0, 0, 1, 5000, 5000, 20_000}, Radii: []float64{1, 0, 7, 1, math.Inf(1)}}
		out, err := rt.ConstrainClusters(nil, x, &c)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range c.Radii {
			s := x[c.Offsets[i]:c.Offsets[i+1]]
			if len(s) == 0 {
				if c.Norms[i] != 0 {
					t.Errorf("the empty cluster %d has norm %v", i, c.Norms[i])
				}
				continue
			}
			want, norm, err := rt.Constrain(nil, s, w)
			if err != nil || norm != c.Norms[i] || !slices.Equal(want, out[c.Offsets[i]:c.Offsets[i+1]]) {
				t.Errorf("cluster %d: norm %v, Constrain's %v, or other values; %v", i, c.Norms[i], norm, err)
			}
		}
	})
}

func TestStepAndClustersRefuse(t *testing.T) {
	rt := open(t, WithoutNative())
	long := ramp(13)
	x := long[:12]
	for name, c := range map[string]struct {
		err    error
		detail string
		dst    []float32
		Clusters
	}{
		"no radii":        {backends.ErrArgument, "there are no radii", nil, Clusters{Offsets: []int64{0}}},
		"no layout":       {backends.ErrArgument, "either offsets or labels must be given", nil, Clusters{Radii: []float64{1}}},
		"both layouts":    {backends.ErrArgument, "either offsets or labels must be given", nil, Clusters{Offsets: []int64{0, 12}, Labels: []int32{0}, Radii: []float64{1}}},
		"NaN radius":      {backends.ErrArgument, "the radius of cluster 1 = NaN is negative or not a number", nil, Clusters{Offsets: []int64{0, 6, 12}, Radii: []float64{1, math.NaN()}}},
		"falling offsets": {backends.ErrArgument, "offset 2 = 5 is below offset 1 = 6", nil, Clusters{Offsets: []int64{0, 6, 5, 12}, Radii: []float64{1, 1, 1}}},
		"short offsets":   {backends.ErrShape, "the offsets must be 2 values from 0 to 12", nil, Clusters{Offsets: []int64{0, 11}, Radii: []float64{1}}},
		"label":           {backends.ErrArgument, "label 2 = 1 is not within −1..0", nil, Clusters{Labels: []int32{0, -1, 1}, Radii: []float64{1}}},
		"ragged rows":     {backends.ErrShape, "len(x) = 12 is not a multiple of 5 labels", nil, Clusters{Labels: make([]int32, 5), Radii: []float64{1}}},
		"overlap":         {backends.ErrAlias, "dst overlaps x but does not begin where x does", long[1:], Clusters{Offsets: []int64{0, 12}, Radii: []float64{1}}},
	} {
		_, err := rt.ConstrainClusters(c.dst, x, &c.Clusters)
		var e *backends.Error
		if !errors.As(err, &e) || e.Err != c.err || e.Detail != c.detail {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := rt.ConstrainClusters(nil, x, nil); !errors.Is(err, ErrArgument) {
		t.Errorf("no clusters: %v", err)
	}
	for name, c := range map[string]struct {
		params, delta []float32
		radius        float64
		opts          quant.Options
		err           error
	}{
		"empty":   {nil, nil, 1, quant.Options{}, backends.ErrArgument},
		"lengths": {ramp(3), ramp(4), 1, quant.Options{}, backends.ErrShape},
		"radius":  {ramp(3), ramp(3), math.NaN(), quant.Options{}, backends.ErrArgument},
		"alias":   {x[:6], x[5:11], 1, quant.Options{}, backends.ErrAlias},
		"options": {ramp(3), ramp(3), 1, quant.Options{Cols: 2}, backends.ErrShape},
		"delta":   {ramp(3), []float32{0, float32(math.NaN()), 0}, 1, quant.Options{}, backends.ErrNonFinite},
	} {
		before := slices.Clone(c.params)
		if _, _, err := rt.Step(nil, c.params, c.delta, c.radius, c.opts); !errors.Is(err, c.err) || !slices.Equal(before, c.params) {
			t.Errorf("%s: %v, params %v", name, err, c.params)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := rt.StepContext(ended, nil, ramp(3), ramp(3), 1, quant.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
	if _, err := rt.ConstrainClustersContext(ended, nil, x, &Clusters{Offsets: []int64{0, 12}, Radii: []float64{1}}); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}
