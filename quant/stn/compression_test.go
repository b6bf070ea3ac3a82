// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// drawn returns rows of 4,096 codes as the least-squares thresholds make them of a distribution, one scale a row.
func drawn(rows int, threshold float64, draw func(r *rand.Rand) float64) *quant.Tensor {
	r := rand.New(rand.NewPCG(10, 1))
	q := new(quant.Tensor)
	q.Resize(rows, quant.Options{Levels: quant.Ternary, Format: quant.Int8, Cols: 4096, Group: 4096})
	for i := range q.Codes {
		q.Codes[i] = 0
		switch x := draw(r); {
		case x > threshold:
			q.Codes[i] = 1
		case x < -threshold:
			q.Codes[i] = -1
		}
	}
	for i := range q.Scales {
		q.Scales[i] = 0.01 + r.Float32() // not a binary16
	}
	return q
}

func gaussian(r *rand.Rand) float64 { return r.NormFloat64() }

func laplace(r *rand.Rand) float64 { return math.Copysign(r.ExpFloat64(), r.Float64()-0.5) }

// entropy returns the bits a code of the codes' own distribution.
func entropy(codes []int8) float64 {
	var counts [3]float64
	for _, c := range codes {
		counts[c+1]++
	}
	h := 0.0
	for _, n := range counts {
		p := n / float64(len(codes))
		h -= p * math.Log2(p)
	}
	return h
}

// TestCompression: whole files against float32, with a float32 scale a row and all that a file has besides.
func TestCompression(t *testing.T) {
	for _, c := range []struct {
		name         string
		threshold    float64
		draw         func(*rand.Rand) float64
		rans, planes float64 // whole file, at least
	}{
		{"Gaussian", 0.612, gaussian, 20.65, 20.5},
		{"Laplace", 1, laplace, 24, 23},
	} {
		q := drawn(1024, c.threshold, c.draw) // 4 Mi codes
		h, n := entropy(q.Codes), float64(len(q.Codes))
		packed, err := q.Convert(nil, quant.Base3)
		if err != nil {
			t.Fatal(err)
		}
		for coding, least := range map[Coding]float64{RANS: c.rans, Planes: c.planes, Base3: 19.8} {
			f := write(t, nil, func(w *Writer) error { return w.Add("w", nil, packed, coding) })
			i, err := f.Info("w")
			if err != nil {
				t.Fatal(err)
			}
			bits := float64(8*(i.Codes.Size+i.Index.Size)) / n
			ratio := 4 * n / float64(f.Size())
			t.Logf("%s, %v: entropy %.4f bits, codes and index %.4f (%+.3f %%), whole file %.4f bits = %.2fx", c.name, coding, h, bits, 100*(bits/h-1), 8*float64(f.Size())/n, ratio)
			if coding == RANS && bits > 1.005*h {
				t.Errorf("%s: %.4f bits a code, the entropy is %.4f", c.name, bits, h)
			}
			if ratio < least {
				t.Errorf("%s as %v: the whole file is %.2fx smaller than float32, at least %.2fx is expected", c.name, coding, ratio, least)
			}
			same(t, c.name, must(f.Tensor("w", nil))(t), q)
		}
		best, _, err := Smallest(packed)
		if err != nil || best != RANS {
			t.Errorf("%s: the smallest is %v, %v", c.name, best, err)
		}
	}
}

// TestShortRows: what fills up symbols and words does not count much, nor do models of small tensors.
func TestShortRows(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 1))
	for _, s := range [][2]int{{64, 27}, {1000, 27}, {128, 128}, {512, 147}, {33, 512}} {
		q := random(r, quant.Ternary, s[0], s[1], 0, 0.362) // 46 % zeros
		h, all, zeros := entropy(q.Codes), float64(len(q.Codes)), 0.0
		for _, c := range q.Codes {
			if c == 0 {
				zeros++
			}
		}
		blocks := math.Ceil(all / planesCodes)
		for c, most := range map[Coding]float64{RANS: 1.005*h + 8*40/all, Planes: 2 - zeros/all + 46*blocks/all} {
			n, err := EncodedSize(q, c)
			if bits := 8 * float64(n) / all; err != nil || bits > most {
				t.Errorf("%v as %v: %.4f bits a code; at most %.4f are expected, and the entropy is %.4f", s, c, bits, most, h)
			}
		}
	}
}

// benchmark measures on a Gaussian's 16 Mi codes; f works on so many of them.
func benchmark(b *testing.B, coding Coding, codes int, f func(q *quant.Tensor, file *File) error) {
	q, err := drawn(4096, 0.612, gaussian).Convert(nil, quant.Base3)
	if err != nil {
		b.Fatal(err)
	}
	if coding == Planes {
		if q, err = q.Convert(nil, quant.Planes); err != nil {
			b.Fatal(err)
		}
	}
	path := filepath.Join(b.TempDir(), "x.stn")
	w, err := Create(path, nil)
	if err == nil {
		if err = w.Add("w", nil, q, coding); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	file, err := Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	for b.Loop() {
		if err := f(q, file); err != nil {
			b.Fatal(err)
		}
	}
	n := float64(q.Rows * q.Cols)
	b.ReportMetric(float64(codes)*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gcodes/s")
	b.ReportMetric(8*float64(file.Size())/n, "filebits/code")
	b.ReportMetric(4*n/float64(file.Size()), "x")
}

// BenchmarkTensor reads a whole tensor, checksums included the first time.
func BenchmarkTensor(b *testing.B) {
	for _, c := range []Coding{Base3, Planes, RANS, Classes} {
		var dst quant.Tensor
		b.Run(c.String(), func(b *testing.B) {
			benchmark(b, c, 4096*4096, func(_ *quant.Tensor, file *File) error { _, err := file.Tensor("w", &dst); return err })
		})
	}
}

// BenchmarkRow reads one row of 4,096 codes among 4,096.
func BenchmarkRow(b *testing.B) {
	for _, c := range []Coding{Base3, Planes, RANS} {
		var dst quant.Tensor
		r := rand.New(rand.NewPCG(12, 1))
		b.Run(c.String(), func(b *testing.B) {
			benchmark(b, c, 4096, func(_ *quant.Tensor, file *File) error { _, err := file.Rows("w", r.IntN(4096), 1, &dst); return err })
		})
	}
}

// BenchmarkCoder writes a tensor to nowhere: models, blocks, index.
func BenchmarkCoder(b *testing.B) {
	for _, c := range []Coding{Planes, RANS} {
		b.Run(c.String(), func(b *testing.B) {
			benchmark(b, c, 4096*4096, func(q *quant.Tensor, _ *File) error {
				i := Info{Levels: q.Levels, Coding: c, Rows: q.Rows, Cols: q.Cols, Group: q.Group, Pack: 1}
				coder := newCoder(&i, io.Discard)
				if err := coder.add(q); err != nil {
					return err
				}
				_, err := coder.finish()
				return err
			})
		})
	}
}

// structured is a matrix by absmean with one scale, of normal values whose rows and columns differ in magnitude, by factors of 2^(±spread).
func structured(rows, cols int, spread float64) *quant.Tensor {
	r := rand.New(rand.NewPCG(14, 1))
	scale := func(n int) []float64 {
		list := make([]float64, n)
		for i := range list {
			list[i] = math.Exp2(spread * r.NormFloat64())
		}
		return list
	}
	high, wide := scale(rows), scale(cols)
	values, sum := make([]float64, rows*cols), 0.0
	for i := range values {
		values[i] = r.NormFloat64() * high[i/cols] * wide[i%cols]
		sum += math.Abs(values[i])
	}
	mean := sum / float64(len(values))
	q := new(quant.Tensor)
	q.Resize(rows, quant.Options{Levels: quant.Ternary, Format: quant.Int8, Cols: cols})
	q.Scales[0] = float32(mean)
	for i, v := range values {
		q.Codes[i] = int8(max(-1, min(1, math.RoundToEven(v/mean))))
	}
	return q
}

// BenchmarkClasses reads whole tensors of rows and columns that differ, as the other coding and as this one.
func BenchmarkClasses(b *testing.B) {
	for _, s := range [][2]int{{4096, 4096}, {512, 128}, {128, 512}} {
		q := structured(s[0], s[1], 0.5)
		n := float64(s[0] * s[1])
		for _, c := range []Coding{RANS, Classes} {
			path := filepath.Join(b.TempDir(), "x.stn")
			w, err := Create(path, nil)
			if err == nil {
				if err = w.Add("w", nil, q, c); err == nil {
					err = w.Close()
				}
			}
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%dx%d/%v", s[0], s[1], c), func(b *testing.B) {
				file, err := Open(path)
				if err != nil {
					b.Fatal(err)
				}
				defer file.Close()
				var dst quant.Tensor
				for b.Loop() {
					if _, err := file.Tensor("w", &dst); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gcodes/s")
				b.ReportMetric(4*n/float64(file.tensors[0].Bytes()), "x")
			})
		}
	}
}
