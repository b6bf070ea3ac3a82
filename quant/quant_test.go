// SPDX-License-Identifier: Apache-2.0

package quant

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

func TestPackingIsReversible(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := 1; n < 1400; n++ {
		codes, back := make([]int8, n), make([]int8, n)
		for i := range codes {
			codes[i] = int8(r.IntN(3) - 1)
		}
		for _, f := range []Format{Bits2, Base3} {
			packed := make([]byte, f.RowBytes(n))
			PackRow(packed, codes, f)
			if UnpackRow(back, packed, f); !slices.Equal(codes, back) {
				t.Fatalf("%v of %d codes: %v came back as %v", f, n, codes, back)
			}
		}
	}
}

// TestPackingKnownAnswers fixes the layout: planes, most significant digit first, the fraction form of base 3.
func TestPackingKnownAnswers(t *testing.T) {
	packed := make([]byte, 2)
	PackRow(packed, []int8{1, -1, 0, 0, -1, 1, 1, -1}, Bits2) // planes of two: (1, 0, −1, 1) and (−1, 0, 1, −1)
	if want := []byte{2 | 1<<2 | 0<<4 | 2<<6, 0 | 1<<2 | 2<<4 | 0<<6}; !slices.Equal(packed, want) {
		t.Errorf("2 bits: %08b, want %08b", packed, want)
	}
	PackRow(packed[:1], []int8{1, 0, -1, 1, 0}, Base3) // digits 2, 1, 0, 2, 1: 162+27+0+6+1 = 196; ⌈196·256/243⌉ = 207
	if packed[0] != 207 {
		t.Errorf("base 3: %d, want 207", packed[0])
	}
}

// TestConvertKeepsCodes turns codes of every level into every format that holds them and back, at lengths around all blocks.
func TestConvertKeepsCodes(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	for _, cols := range []int{1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 127, 255, 256, 257, 260, 319, 320, 321, 511, 513, 1000} {
		for _, levels := range []Levels{Ternary, Sparse, Quinary} {
			x := make([]float32, 3*cols)
			q := &Tensor{Rows: 3, Cols: cols, Levels: levels, Format: Int8, Codes: make([]int8, 3*cols), Scales: []float32{1}}
			for i := range x {
				x[i] = float32(r.NormFloat64())
				q.Codes[i] = int8(r.IntN(int(levels|1))) - int8(levels/2)
			}
			if levels == Sparse {
				for row := range 3 {
					SparseCodes(q.Codes[row*cols:][:cols], x[row*cols:][:cols])
				}
			}
			for _, f := range []Format{Int8, Bits2, Base3, Four5, Planes} {
				p, err := q.Convert(nil, f)
				if wrong := levels == Quinary && f != Int8 || f == Four5 && levels != Sparse; wrong {
					if !errors.Is(err, ErrFormat) {
						t.Fatalf("%v as %v: %v", levels, f, err)
					}
					continue
				}
				if err != nil || p.Check() != nil {
					t.Fatalf("%v as %v of %d: %v, %v", levels, f, cols, err, p.Check())
				}
				back, err := p.Convert(nil, Int8)
				if err != nil || !slices.Equal(back.Codes, q.Codes) {
					t.Fatalf("%v as %v of %d: %v: %v came back as %v", levels, f, cols, err, q.Codes, back.Codes)
				}
			}
		}
	}
}

// TestConvertIsExactOrAnError: codes that a format cannot hold are refused, not changed.
func TestConvertIsExactOrAnError(t *testing.T) {
	for _, c := range []struct {
		levels Levels
		codes  []int8
		to     Format
	}{{Sparse, []int8{1, 1, -1, -1}, Four5}, {Sparse, []int8{0, 0, -1, 1}, Four5}, {Ternary, []int8{2, -1, 0}, Bits2}, {Ternary, []int8{1, -2, 0}, Planes}, {Quinary, []int8{3}, Int8}, {Ternary, []int8{-128}, Base3}} {
		q := &Tensor{Rows: 1, Cols: len(c.codes), Levels: c.levels, Format: Int8, Codes: c.codes, Scales: []float32{1}}
		if p, err := q.Convert(nil, c.to); !errors.Is(err, ErrFormat) {
			t.Errorf("%v %v to %v: %+v, %v", c.levels, c.codes, c.to, p, err)
		}
	}
	q := &Tensor{Rows: 1, Cols: 8, Levels: Ternary, Format: Int8, Codes: make([]int8, 8), Scales: []float32{1}}
	if _, err := q.Convert(&Tensor{Packed: unsafe.Slice((*byte)(unsafe.Pointer(&q.Codes[0])), 8)[:0]}, Bits2); !errors.Is(err, ErrFormat) {
		t.Errorf("into its own memory: %v", err)
	}
}

// TestBrokenPlanesAreRefused: each wrong index, count or stray bit.
func TestBrokenPlanesAreRefused(t *testing.T) {
	q := &Tensor{Rows: 2, Cols: 70, Levels: Ternary, Format: Int8, Codes: make([]int8, 140), Scales: []float32{1}}
	for i := range q.Codes {
		q.Codes[i] = int8(i%3) - 1
	}
	for name, damage := range map[string]func(p *Tensor){
		"index":     func(p *Tensor) { p.Index[1]++ },
		"first":     func(p *Tensor) { p.Index[0] = 1 },
		"short":     func(p *Tensor) { p.Signs = p.Signs[:len(p.Signs)-1] },
		"backwards": func(p *Tensor) { p.Index[1] = p.Index[2] + 1 },
		"stray":     func(p *Tensor) { p.Packed[15] |= 128 },
		"mask":      func(p *Tensor) { p.Packed[0] = 255; p.Packed[1] = 255; p.Packed[2] = 255 },
		"no index":  func(p *Tensor) { p.Index = nil },
		"no levels": func(p *Tensor) { p.Levels = 7 },
	} {
		p, err := q.Convert(nil, Planes)
		if err != nil {
			t.Fatal(err)
		}
		if damage(p); !errors.Is(p.Check(), ErrFormat) {
			t.Errorf("%s: %v", name, p.Check())
		}
	}
}

func TestDequantize(t *testing.T) {
	q := &Tensor{Rows: 2, Cols: 3, Levels: Quinary, Format: Int8, Group: 2, Codes: []int8{2, -1, 0, 1, 1, -2}, Scales: []float32{2, 4, 6, 8}}
	got, err := q.Dequantize(nil)
	if want := []float32{2, -1, 0, 3, 3, -8}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}

func TestInconsistentTensorsAreRefused(t *testing.T) {
	good := Tensor{Rows: 2, Cols: 5, Levels: Ternary, Format: Base3, Packed: make([]byte, 2), Scales: make([]float32, 1)}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Tensor){
		"rows":   func(q *Tensor) { q.Rows = 3 },
		"cols":   func(q *Tensor) { q.Cols = 6 },
		"none":   func(q *Tensor) { q.Rows = 0 },
		"levels": func(q *Tensor) { q.Levels = Quinary },
		"format": func(q *Tensor) { q.Format = Int8 },
		"group":  func(q *Tensor) { q.Group = 6 },
		"scales": func(q *Tensor) { q.Scales = nil },
		"packed": func(q *Tensor) { q.Packed = nil },
	} {
		q := good
		spoil(&q)
		if _, err := q.Dequantize(nil); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Measure(&good, make([]float32, 9)); !errors.Is(err, ErrFormat) {
		t.Errorf("measured against 9 values: %v", err)
	}
}

func TestMeasure(t *testing.T) {
	q := &Tensor{Rows: 1, Cols: 4, Levels: Ternary, Format: Int8, Codes: []int8{1, 0, 0, -1}, Scales: []float32{3}}
	s, err := Measure(q, []float32{4, 0, 0, -4})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		got, want float64
	}{{"zeros", s.Zeros, 0.5}, {"entropy", s.Entropy, 1.5}, {"bits", s.Bits, 16}, {"compression", s.Compression, 2}, {"mse", s.MSE, 0.5}, {"relative", s.Relative, 1.0 / 16}, {"cosine", s.Cosine, 1}, {"magnitude", s.Magnitude, 0.75}} {
		if math.Abs(c.got-c.want) > 1e-12 {
			t.Errorf("%s = %v, want %v", c.name, c.got, c.want)
		}
	}
}

// TestResizeKeepsMemory: a tensor used again for less allocates nothing.
func TestResizeKeepsMemory(t *testing.T) {
	var q Tensor
	q.Resize(4, Options{Cols: 100, Group: 10}.WithDefaults(400))
	o := Options{Cols: 50, Format: Int8}.WithDefaults(100)
	if n := testing.AllocsPerRun(100, func() { q.Resize(2, o) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if err := q.Check(); err != nil {
		t.Error(err)
	}
}
