// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// random returns a tensor of int8 codes, 0 with a probability.
func random(r *rand.Rand, l quant.Levels, rows, cols, group int, zeros float64) *quant.Tensor {
	q := new(quant.Tensor)
	q.Resize(rows, quant.Options{Levels: l, Format: quant.Int8, Cols: cols, Group: group})
	for i := range q.Codes {
		q.Codes[i] = 0
		for r.Float64() >= zeros && q.Codes[i] == 0 {
			q.Codes[i] = int8(r.IntN(int(l|1))) - int8(l/2)
		}
	}
	if l == quant.Sparse {
		for row := range rows {
			makeSparse(r, q.Codes[row*cols:][:cols])
		}
	}
	for i := range q.Scales {
		q.Scales[i] = float32(r.NormFloat64())
	}
	return q
}

// makeSparse gives each four codes of a place one 0.
func makeSparse(r *rand.Rand, codes []int8) {
	for len(codes) > 0 {
		m := min(64, (len(codes)-1)/4+1)
		n := min(len(codes), 4*m)
		for i := range n {
			codes[i] = int8(2*r.IntN(2) - 1)
		}
		for b := range m {
			if i := b + m*r.IntN(4); i < n {
				codes[i] = 0
			} else if b+3*m < n {
				codes[b] = 0
			}
		}
		codes = codes[n:]
	}
}

// same compares tensors by shape, codes and scales, whatever their formats.
func same(t *testing.T, what string, got, want *quant.Tensor) {
	t.Helper()
	a, err := got.Convert(nil, quant.Int8)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	b, err := want.Convert(nil, quant.Int8)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if a.Rows != b.Rows || a.Cols != b.Cols || a.Levels != b.Levels || a.Group != b.Group {
		t.Fatalf("%s: %d×%d %v in groups of %d, want %d×%d %v in groups of %d", what, a.Rows, a.Cols, a.Levels, a.Group, b.Rows, b.Cols, b.Levels, b.Group)
	}
	if i := firstDifference(a.Codes, b.Codes); i >= 0 {
		t.Fatalf("%s: code %d of row %d is %d, want %d", what, i%a.Cols, i/a.Cols, a.Codes[i], b.Codes[i])
	}
	if !slices.Equal(a.Scales, b.Scales) {
		t.Fatalf("%s: scales %v, want %v", what, a.Scales, b.Scales)
	}
}

func firstDifference[E comparable](a, b []E) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// part returns rows of a tensor of int8 codes.
func part(q *quant.Tensor, first, rows int) *quant.Tensor {
	p := *q
	p.Rows = rows
	p.Codes = q.Codes[first*q.Cols:][:rows*q.Cols]
	if q.Group > 0 {
		n := quant.ScaleCount(1, q.Cols, q.Group)
		p.Scales = q.Scales[first*n:][:rows*n]
	}
	return &p
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// write makes a file and opens it.
func write(t *testing.T, metadata map[string]string, add func(w *Writer) error) *File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.stn")
	w := must(Create(path, metadata))(t)
	if err := add(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f := must(Open(path))(t)
	t.Cleanup(func() { f.Close() })
	return f
}

var allCodings = []Coding{Int8, Bits2, Base3, Four5, Planes, RANS, Classes}

// Shapes around the edges of words, blocks, packed rows and segments.
var shapes = [][2]int{
	{1, 1}, {3, 1}, {1, 5}, {2, 7}, {5, 27}, {3, 63}, {3, 64}, {3, 65}, {2, 255}, {2, 256}, {3, 257}, {2, 319}, {2, 320}, {2, 321}, {300, 27}, {100, 2047}, {9, 2048}, {9, 2049}, {40, 4096},
	{1, 5 * blockSymbols}, {1, 5*blockSymbols + 1}, {2, 5*blockSymbols - 1}, {3, planesCodes/2 + 1}, {65537, 3}, {1000, 70},
}

func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	type want struct {
		q      *quant.Tensor
		coding Coding
	}
	wants := map[string]want{}
	f := write(t, map[string]string{"a": "b", "": "\x00\"\\ü\n"}, func(w *Writer) error {
		for _, s := range shapes {
			if testing.Short() && s[0]*s[1] > 1<<14 && s != [2]int{1, 5*blockSymbols + 1} {
				continue
			}
			for _, l := range []quant.Levels{quant.Ternary, quant.Quinary, quant.Sparse} {
				for _, group := range slices.Compact([]int{0, (s[1] + 1) / 2, s[1]}) {
					q := random(r, l, s[0], s[1], group, r.Float64())
					if group == s[1] {
						for i := range q.Scales {
							q.Scales[i] = float32(i%2048) / 16 // binary16
						}
					}
					for _, c := range append([]Coding{0}, allCodings...) {
						name := fmt.Sprintf("%d×%d %v/%d as %v", s[0], s[1], l, group, c)
						if c != 0 && !c.fits(l) {
							if err := w.Add(name, nil, q, c); !errors.Is(err, ErrArgument) {
								t.Errorf("%s: %v", name, err)
							}
							continue
						}
						if err := w.Add(name, nil, q, c); err != nil {
							return err
						}
						wants[name] = want{q, c}
					}
				}
			}
		}
		return nil
	})
	if err := f.Verify(); err != nil {
		t.Fatal(err)
	}
	if m := f.Metadata(); len(m) != 2 || m["a"] != "b" || m[""] != "\x00\"\\ü\n" {
		t.Errorf("metadata %q", m)
	}
	if len(f.Tensors()) != len(wants) {
		t.Errorf("%d tensors, want %d", len(f.Tensors()), len(wants))
	}
	var again, rows quant.Tensor
	for _, i := range f.Tensors() {
		w := wants[i.Name]
		got := must(f.Tensor(i.Name, &again))(t)
		same(t, i.Name, got, w.q)
		if w.coding != 0 && (i.Coding != w.coding || got.Format != i.Coding.format(i.Levels)) {
			t.Errorf("%s: coded as %v, read as %v", i.Name, i.Coding, got.Format)
		}
		if i.ScaleKind == F32 && w.q.Group == w.q.Cols && w.q.Group > 1 {
			t.Errorf("%s: scales that fit binary16 are %v", i.Name, i.ScaleKind)
		}
		for range 3 {
			first := r.IntN(i.Rows)
			n := 1 + r.IntN(i.Rows-first)
			if i.Rows > 1000 {
				n = 1 + r.IntN(min(100, i.Rows-first))
			}
			got := must(f.Rows(i.Name, first, n, &rows))(t)
			same(t, fmt.Sprintf("%s, %d rows from %d", i.Name, n, first), got, part(w.q, first, n))
		}
		if i.blocks() == 0 {
			same(t, i.Name+", mapped", must(f.Mapped(i.Name))(t), w.q)
		} else if _, err := f.Mapped(i.Name); !errors.Is(err, ErrArgument) {
			t.Errorf("%s mapped: %v", i.Name, err)
		}
	}
}
