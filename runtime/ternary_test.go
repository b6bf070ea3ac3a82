// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// TestTernaryMatMulKnownAnswer multiplies by hand.
func TestTernaryMatMulKnownAnswer(t *testing.T) {
	rt := open(t)
	x, err := rt.QuantizeActivations(nil, []float32{127, -64, 0.4, 0.5, 1.5, 0, 0, 0, 0, 0}, 5)
	if want := []int8{127, -64, 0, 0, 2, 0, 0, 0, 0, 0}; err != nil || !slices.Equal(x.Codes, want) || x.Scales[0] != 1 || x.Scales[1] != 0 {
		t.Fatalf("%v %v, %v; want codes %v, ties to even", x.Codes, x.Scales, err, want)
	}
	w := &quant.Tensor{Rows: 2, Cols: 5, Levels: quant.Ternary, Format: quant.Int8, Group: 3, Codes: []int8{1, -1, 1, 0, -1, 0, 1, 0, 1, 1}, Scales: []float32{0.5, 2, 1, 4}}
	for f := quant.Int8; f <= quant.Planes; f++ {
		if f == quant.Four5 {
			continue
		}
		p, err := w.Convert(nil, f)
		if err != nil {
			t.Fatal(err)
		}
		out, err := rt.TernaryMatMul(nil, x, p)
		if want := []float32{0.5*(127+64) + 2*-2, -64 + 4*2, 0, 0}; err != nil || !slices.Equal(out, want) {
			t.Errorf("%v: %v, %v; want %v", f, out, err, want)
		}
	}
}

// TestTernaryMatMulIsNearTheFloatProduct holds it against float64 products of what the codes stand for: only the roundings of the result itself differ.
func TestTernaryMatMulIsNearTheFloatProduct(t *testing.T) {
	rt := open(t)
	r := rand.New(rand.NewPCG(1, 2))
	const rows, cols, batch = 37, 700, 3
	v := make([]float32, rows*cols)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	for _, o := range []quant.Options{{Cols: cols}, {Cols: cols, Group: 128, Format: quant.Base3}, {Cols: cols, Group: quant.PerRow, Levels: quant.Quinary}, {Cols: cols, Levels: quant.Sparse, Format: quant.Four5, Group: quant.PerRow}} {
		w, err := rt.Quantize(nil, v, o)
		if err != nil {
			t.Fatal(err)
		}
		x, err := rt.QuantizeActivations(nil, v[:batch*cols], cols)
		if err != nil {
			t.Fatal(err)
		}
		out, err := rt.TernaryMatMul(nil, x, w)
		if err != nil {
			t.Fatal(err)
		}
		plain, _ := w.Dequantize(nil)
		for b := range batch {
			for row := range rows {
				want, size := 0.0, 0.0
				for c := range cols {
					p := float64(plain[row*cols+c]) * float64(x.Codes[b*cols+c]) * float64(x.Scales[b])
					want, size = want+p, size+math.Abs(p)
				}
				if got := float64(out[b*rows+row]); math.Abs(got-want) > 0x1p-23*size {
					t.Fatalf("%+v: %v, want %v", o, got, want)
				}
			}
		}
	}
}

func TestSparseQuantize(t *testing.T) {
	rt := open(t)
	x := []float32{0.1, 2, -3, 4, 1, -1, 1, 1, 5}
	for f := quant.Int8; f <= quant.Four5; f++ {
		q, err := rt.Quantize(nil, x, quant.Options{Levels: quant.Sparse, Format: f})
		if err != nil {
			t.Fatal(err)
		}
		codes := make([]int8, len(x))
		q.UnpackRow(codes, 0)
		// Three places: {0.1, 4, 1}, which the row's end leaves short, {2, 1, 5}, {-3, -1}: no place has four codes but none has to be 0.
		if want := []int8{1, 1, -1, 1, 1, -1, 1, 1, 1}; !slices.Equal(codes, want) || math.Abs(float64(q.Scales[0])-18.1/9) > 1e-6 {
			t.Errorf("%v: %v %v, want %v", f, codes, q.Scales, want)
		}
	}
	q, err := rt.Quantize(nil, x[:8], quant.Options{Levels: quant.Sparse}) // places {0.1, -3, 1, 1} and {2, 4, -1, 1}
	if want := []int8{0, 1, -1, 1, 1, 0, 1, 1}; err != nil || !slices.Equal(q.Codes, want) || math.Abs(float64(q.Scales[0])-12.0/6) > 1e-6 {
		t.Errorf("%v %v, %v; want %v", q.Codes, q.Scales, err, want)
	}
	q, err = rt.Quantize(nil, x[:8], quant.Options{Levels: quant.Sparse, Rule: quant.Magnitude})
	if want := math.Sqrt((0.01 + 4 + 9 + 16 + 4) / 6); err != nil || math.Abs(float64(q.Scales[0])-want) > 1e-6 {
		t.Errorf("%v, %v; want %v", q.Scales, err, want)
	}
	x[0] = float32(math.NaN())
	if _, err := rt.Quantize(nil, x, quant.Options{Levels: quant.Sparse}); !errors.Is(err, ErrNonFinite) {
		t.Errorf("NaN: %v", err)
	}
}

func TestTernaryErrors(t *testing.T) {
	rt := open(t)
	w := &quant.Tensor{Rows: 2, Cols: 4, Levels: quant.Ternary, Format: quant.Int8, Codes: make([]int8, 8), Scales: []float32{1}}
	x, err := rt.QuantizeActivations(nil, make([]float32, 8), 4)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	broken := *w
	broken.Codes = broken.Codes[:7]
	for name, c := range map[string]struct {
		err  error
		call func() error
	}{
		"no x":      {ErrArgument, func() error { _, err := rt.QuantizeActivations(nil, nil, 4); return err }},
		"cols":      {ErrShape, func() error { _, err := rt.QuantizeActivations(nil, make([]float32, 9), 4); return err }},
		"zero cols": {ErrShape, func() error { _, err := rt.QuantizeActivations(nil, make([]float32, 9), 0); return err }},
		"infinite": {ErrNonFinite, func() error {
			_, err := rt.QuantizeActivations(nil, []float32{1, float32(math.Inf(-1))}, 1)
			return err
		}},
		"no weights": {ErrArgument, func() error { _, err := rt.TernaryMatMul(nil, x, nil); return err }},
		"nothing":    {ErrArgument, func() error { _, err := rt.TernaryMatMul(nil, nil, w); return err }},
		"broken":     {quant.ErrFormat, func() error { _, err := rt.TernaryMatMul(nil, x, &broken); return err }},
		"dst":        {ErrShape, func() error { _, err := rt.TernaryMatMul(make([]float32, 3), x, w); return err }},
		"other length": {ErrShape, func() error {
			_, err := rt.TernaryMatMul(nil, &quant.Activations{Rows: 1, Cols: 3, Codes: make([]int8, 3), Scales: []float32{1}}, w)
			return err
		}},
		"few codes": {ErrShape, func() error {
			_, err := rt.TernaryMatMul(nil, &quant.Activations{Rows: 1, Cols: 4, Scales: []float32{1}}, w)
			return err
		}},
		"alias": {ErrAlias, func() error {
			_, err := rt.TernaryMatMul(append(x.Scales, 0, 0)[:4], &quant.Activations{Rows: 2, Cols: 4, Codes: x.Codes, Scales: x.Scales}, w)
			return err
		}},
		"ended": {context.Canceled, func() error { _, err := rt.TernaryMatMulContext(ended, nil, x, w); return err }},
		"sparse": {ErrArgument, func() error {
			_, err := rt.Quantize(nil, make([]float32, 8), quant.Options{Format: quant.Four5})
			return err
		}},
		"planes": {ErrArgument, func() error {
			_, err := rt.Quantize(nil, make([]float32, 8), quant.Options{Format: quant.Planes})
			return err
		}},
	} {
		if name == "alias" {
			x.Scales = slices.Grow(x.Scales, 4)
		}
		if err := c.call(); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
	}
}

func TestTernaryMatMulAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	w := &quant.Tensor{Rows: 64, Cols: 640, Levels: quant.Ternary, Format: quant.Int8, Codes: make([]int8, 64*640), Scales: []float32{1}}
	w, err := w.Convert(nil, quant.Base3)
	if err != nil {
		t.Fatal(err)
	}
	needsFused(t)
	for name, rt := range map[string]*Runtime{"pure Go": queueOnly(open(t, WithoutNative())), "native": open(t, libraries(t), WithForce("simd_c"))} {
		v, out := make([]float32, 640), make([]float32, 64)
		var x quant.Activations
		call := func() {
			if _, err := rt.QuantizeActivations(&x, v, 640); err != nil {
				t.Fatal(err)
			}
			if _, err := rt.TernaryMatMul(out, &x, w); err != nil {
				t.Fatal(err)
			}
		}
		call()
		if n := testing.AllocsPerRun(100, call); n > 0 {
			t.Errorf("%s: %v allocations a call", name, n)
		}
	}
}

// TestConvertIsTensorConvert holds the op, on every kernel that the dispatcher may choose, against the conversion in package quant.
func TestConvertIsTensorConvert(t *testing.T) {
	rt := open(t)
	x := make([]float32, 7*777)
	r := rand.New(rand.NewPCG(4, 4))
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	q, err := rt.Quantize(nil, x, quant.Options{Levels: quant.Sparse, Cols: 777, Group: 100})
	if err != nil {
		t.Fatal(err)
	}
	for from := quant.Int8; from <= quant.Planes; from++ {
		w, err := rt.Convert(nil, q, from)
		if err != nil {
			t.Fatal(err)
		}
		for to := quant.Int8; to <= quant.Planes; to++ {
			want, err := w.Convert(nil, to)
			if err != nil {
				t.Fatal(err)
			}
			got, err := rt.Convert(nil, w, to)
			if err != nil || got.Check() != nil || !slices.Equal(got.Codes, want.Codes) || !slices.Equal(got.Packed, want.Packed) || !slices.Equal(got.Signs, want.Signs) || !slices.Equal(got.Scales, want.Scales) {
				t.Errorf("%v to %v: %v, %v", from, to, err, got.Check())
			}
		}
	}
	if _, err := rt.Convert(q, q, quant.Bits2); !errors.Is(err, quant.ErrFormat) {
		t.Errorf("into itself: %v", err)
	}
	q.Scales = q.Scales[1:]
	if _, err := rt.Convert(nil, q, quant.Bits2); !errors.Is(err, quant.ErrFormat) {
		t.Errorf("a scale is missing: %v", err)
	}
}

// TestHostilePlanes: planes whose index is right and whose first plane is not give wrong results, and no more, on every kernel.
func TestHostilePlanes(t *testing.T) {
	codes := &quant.Tensor{Rows: 3, Cols: 67, Levels: quant.Ternary, Format: quant.Int8, Codes: make([]int8, 3*67), Scales: []float32{1}}
	w, err := codes.Convert(nil, quant.Planes) // no code but 0: no signs at all
	if err != nil {
		t.Fatal(err)
	}
	for i := range w.Packed {
		w.Packed[i] = 255
	}
	if err := w.CheckShape(); err != nil {
		t.Fatal(err)
	}
	var want []float32
	for name, rt := range map[string]*Runtime{"pure Go": open(t, WithoutNative()), "best": open(t)} {
		x, err := rt.QuantizeActivations(nil, ramp(2*67), 67)
		if err != nil {
			t.Fatal(err)
		}
		out, err := rt.TernaryMatMul(nil, x, w)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = out
		} else if !slices.Equal(out, want) {
			t.Errorf("%s: %v, elsewhere %v", name, out, want)
		}
		if _, err := rt.Convert(nil, w, quant.Base3); !errors.Is(err, quant.ErrFormat) {
			t.Errorf("%s: converted: %v", name, err)
		}
	}
}

// TestTernaryAliases: destinations that are memory of an operand are refused.
func TestTernaryAliases(t *testing.T) {
	rt := open(t)
	x := ramp(8)
	if _, err := rt.QuantizeActivations(&quant.Activations{Scales: x[:0]}, x, 2); !errors.Is(err, ErrAlias) {
		t.Errorf("scales in x: %v", err)
	}
	q, err := rt.Quantize(nil, x, quant.Options{Format: quant.Bits2})
	if err != nil {
		t.Fatal(err)
	}
	c := *q
	if _, err := rt.Convert(&c, q, quant.Base3); !errors.Is(err, quant.ErrFormat) {
		t.Errorf("a copy of the tensor's header: %v", err)
	}
}
