// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// tensors are of lengths from 1 to beyond what a list shares.
func tensors(n int) [][]float32 {
	r := rand.New(rand.NewPCG(30, 31))
	list := make([][]float32, n)
	for i := range list {
		length := 1 + r.IntN(10_000)
		if i == 3 {
			length = whole + 5
		}
		list[i] = make([]float32, length)
		for j := range list[i] {
			list[i][j] = float32(r.NormFloat64())
		}
	}
	return list
}

func TestListsGiveTheBitsOfSeparateCalls(t *testing.T) {
	list := tensors(60)
	radii := make([]float64, len(list))
	for i := range radii {
		radii[i] = float64(i % 3 * 20)
	}
	for _, option := range []Option{WithoutNative(), libraries(t)} {
		rt := open(t, option)
		for _, o := range []quant.Options{{}, {Format: quant.Base3, Rule: quant.LeastSquares}, {Group: 1}} {
			got, err := rt.QuantizeMany(context.Background(), nil, list, o)
			if err != nil {
				t.Fatal(err)
			}
			for i, x := range list {
				want, err := rt.Quantize(nil, x, o)
				if err != nil || !slices.Equal(want.Codes, got[i].Codes) || !slices.Equal(want.Packed, got[i].Packed) || !slices.Equal(want.Scales, got[i].Scales) {
					t.Fatalf("%+v: tensor %d of %d values differs: %v", o, i, len(x), err)
				}
			}
		}
		inPlace := make([][]float32, len(list))
		for i := range list {
			inPlace[i] = slices.Clone(list[i])
		}
		out, norms, err := rt.ConstrainMany(context.Background(), nil, list, radii)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := rt.ConstrainMany(context.Background(), inPlace, inPlace, radii); err != nil {
			t.Fatal(err)
		}
		for i, x := range list {
			want, norm, err := rt.Constrain(nil, x, radii[i])
			if err != nil || norm != norms[i] || !slices.Equal(want, out[i]) || !slices.Equal(want, inPlace[i]) {
				t.Fatalf("step %d of %d values differs: norm %v, %v, %v", i, len(x), norms[i], norm, err)
			}
		}
	}
}

func TestListsRefuseWhatDoesNotFit(t *testing.T) {
	rt := open(t, WithoutNative())
	ctx := context.Background()
	if q, err := rt.QuantizeMany(ctx, nil, nil, quant.Options{}); err != nil || len(q) != 0 {
		t.Errorf("an empty list: %v, %v", q, err)
	}
	if out, norms, err := rt.ConstrainMany(ctx, nil, nil, nil); err != nil || len(out)+len(norms) != 0 {
		t.Errorf("an empty list: %v, %v, %v", out, norms, err)
	}
	x := []float32{3, 4, 0, 0, 6, 8}
	nan := []float32{1, float32(math.NaN())}
	if _, err := rt.QuantizeMany(ctx, nil, [][]float32{x, nan}, quant.Options{}); !errors.Is(err, ErrNonFinite) || !strings.HasPrefix(err.Error(), "tensor 1: ") {
		t.Errorf("a NaN: %v", err)
	}
	if _, err := rt.QuantizeMany(ctx, make([]*quant.Tensor, 1), [][]float32{x, x}, quant.Options{}); !errors.Is(err, ErrShape) {
		t.Errorf("a short dst: %v", err)
	}
	q := new(quant.Tensor)
	if _, err := rt.QuantizeMany(ctx, []*quant.Tensor{q, nil, q}, [][]float32{x, x, x}, quant.Options{}); !errors.Is(err, ErrAlias) {
		t.Errorf("a result twice: %v", err)
	}
	for name, c := range map[string]struct {
		dst, steps [][]float32
		radii      []float64
		want       error
	}{
		"radii":            {nil, [][]float32{x, x}, []float64{1}, ErrShape},
		"dst":              {[][]float32{nil}, [][]float32{x, x}, []float64{1, 1}, ErrShape},
		"length":           {[][]float32{nil, x[:2]}, [][]float32{x, x}, []float64{1, 1}, ErrShape},
		"radius":           {nil, [][]float32{x, x}, []float64{1, -1}, ErrArgument},
		"the same twice":   {[][]float32{x, x}, [][]float32{x, x}, []float64{1, 1}, ErrAlias},
		"another's step":   {[][]float32{x[:2], nil}, [][]float32{x[:2], x[1:4]}, []float64{1, 1}, ErrAlias},
		"another's step 2": {[][]float32{nil, x[2:4]}, [][]float32{x, x[2:4]}, []float64{1, 1}, ErrAlias},
	} {
		before := slices.Clone(x)
		if _, _, err := rt.ConstrainMany(ctx, c.dst, c.steps, c.radii); !errors.Is(err, c.want) || !slices.Equal(x, before) {
			t.Errorf("%s: %v, x %v", name, err, x)
		}
	}
	// Neighbours in one array are no overlap, nor are steps that share memory when they are only read.
	if _, norms, err := rt.ConstrainMany(ctx, [][]float32{x[:2], x[4:]}, [][]float32{x[:2], x[4:]}, []float64{1, 1}); err != nil || norms[0] != 5 || norms[1] != 10 {
		t.Errorf("neighbours: %v, %v", norms, err)
	}
	if _, _, err := rt.ConstrainMany(ctx, nil, [][]float32{x, x[1:]}, []float64{1, 1}); err != nil {
		t.Errorf("steps that share memory: %v", err)
	}
	if _, norms, err := rt.ConstrainMany(ctx, nil, [][]float32{nan, x}, []float64{1, 1}); !errors.Is(err, ErrNonFinite) || !math.IsNaN(norms[0]) {
		t.Errorf("a NaN: %v, %v", norms, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := rt.QuantizeMany(ended, nil, [][]float32{x}, quant.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}

// BenchmarkLists compares a list with separate calls: go test -bench Lists ./runtime
func BenchmarkLists(b *testing.B) {
	rt := open(b, libraries(b))
	for _, n := range []int{1000, 10_000, 100_000} {
		list, radii := make([][]float32, 1000), make([]float64, 1000)
		if n == 100_000 {
			list, radii = list[:100], radii[:100]
		}
		dst, out := make([]*quant.Tensor, len(list)), make([][]float32, len(list))
		for i := range list {
			list[i], radii[i], out[i] = ramp(n), 1, make([]float32, n)
		}
		for name, do := range map[string]func() error{
			"quantize/list": func() (err error) {
				dst, err = rt.QuantizeMany(context.Background(), dst, list, quant.Options{})
				return err
			},
			"quantize/separate": func() (err error) {
				for i, x := range list {
					if dst[i], err = rt.Quantize(dst[i], x, quant.Options{}); err != nil {
						return err
					}
				}
				return nil
			},
			"constrain/list": func() error {
				_, _, err := rt.ConstrainMany(context.Background(), out, list, radii)
				return err
			},
			"constrain/separate": func() error {
				for i, x := range list {
					if _, _, err := rt.Constrain(out[i], x, radii[i]); err != nil {
						return err
					}
				}
				return nil
			},
		} {
			b.Run(fmt.Sprintf("%s/%dx%d", name, len(list), n), func(b *testing.B) {
				for b.Loop() {
					if err := do(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// What does not return is told of, whichever of the list's errors comes first: its memory is still in use.
func TestListsTellOfWhatIsBlocked(t *testing.T) {
	defer goruntime.GOMAXPROCS(goruntime.GOMAXPROCS(2))
	stuck := fmt.Errorf("stuck: %w", ErrBlocked)
	for name, c := range map[string]struct {
		errs []error
		want []error
	}{
		"blocked second": {[]error{context.DeadlineExceeded, stuck}, []error{context.DeadlineExceeded, ErrBlocked}},
		"blocked first":  {[]error{stuck, ErrArgument}, []error{ErrBlocked}},
		"none":           {[]error{nil, ErrArgument}, []error{ErrArgument}},
		"fine":           {[]error{nil, nil}, nil},
	} {
		var both sync.WaitGroup
		both.Add(len(c.errs))
		err := shared(context.Background(), len(c.errs), func(_ context.Context, i int) error {
			both.Done()
			both.Wait() // or the first failure would keep the second from beginning
			return c.errs[i]
		})
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range c.want {
			if !errors.Is(err, w) {
				t.Errorf("%s: %v is not %v", name, err, w)
			}
		}
	}
}
