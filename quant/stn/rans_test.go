// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// drawSymbols returns n symbols' values whose codes are 0 with a probability and otherwise of a random sign.
func drawSymbols(r *rand.Rand, l quant.Levels, n int, zeros float64) []byte {
	values := make([]byte, n)
	for i := range values {
		if l == quant.Sparse {
			values[i] = byte(r.IntN(32))
			continue
		}
		v := 0
		for range symbolCodes(l) {
			code := int(l) / 2
			if r.Float64() >= zeros {
				for code == int(l)/2 {
					code = r.IntN(int(l))
				}
			}
			v = v*int(l) + code
		}
		values[i] = byte(v)
	}
	return values
}

// coders returns a coder and a decoder for symbols' values, and the symbols as bytes.
func coders(l quant.Levels, values []byte) (*encoder, *decoder, []byte, []byte) {
	counts := make([]uint64, alphabet(l))
	symbols := make([]byte, len(values))
	for i, v := range values {
		counts[v]++
		symbols[i] = symbolByte(l, int(v))
	}
	m, text := chooseModel(l, counts)
	e, d := new(encoder), new(decoder)
	e.set(m)
	d.set(m)
	return e, d, symbols, text
}

func TestBlocksAreReversible(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, l := range []quant.Levels{quant.Ternary, quant.Quinary, quant.Sparse} {
		for _, n := range []int{1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 1000, 1001, 1002, 1003, blockSymbols} {
			for _, zeros := range []float64{0, 0.3, 0.46, 0.9, 0.999, 1} {
				values := drawSymbols(r, l, n, zeros)
				e, d, symbols, text := coders(l, values)
				m, rest, wrong := parseModel(l, text)
				if wrong != "" || len(rest) > 0 {
					t.Fatalf("%v: model %x: %s, %d left", l, text, wrong, len(rest))
				}
				var fromText decoder
				if fromText.set(m); fromText != *d {
					t.Fatalf("%v of %d: the model came back as another", l, n)
				}
				data := e.block(nil, symbols, make([]byte, stateBytes+2*n))
				back := make([]byte, n)
				if wrong, at := d.block(back, data); wrong != "" || !slices.Equal(back, symbols) {
					t.Fatalf("%v of %d, %v zeros: %s at %d", l, n, zeros, wrong, at)
				}
			}
		}
	}
}

func benchmarkSymbols() (*encoder, *decoder, []byte, []byte) {
	return coders(quant.Ternary, drawSymbols(rand.New(rand.NewPCG(1, 2)), quant.Ternary, 32*blockSymbols, 0.46))
}

func BenchmarkDecode(b *testing.B) {
	e, d, symbols, _ := benchmarkSymbols()
	var blocks [][]byte
	scratch := make([]byte, stateBytes+2*blockSymbols)
	for part := range slices.Chunk(symbols, blockSymbols) {
		blocks = append(blocks, e.block(nil, part, scratch))
	}
	back := make([]byte, blockSymbols)
	for b.Loop() {
		for _, block := range blocks {
			if wrong, _ := d.block(back, block); wrong != "" {
				b.Fatal(wrong)
			}
		}
	}
	b.ReportMetric(5*float64(len(symbols))*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gcodes/s")
}

func BenchmarkEncode(b *testing.B) {
	e, _, symbols, _ := benchmarkSymbols()
	scratch, out := make([]byte, stateBytes+2*blockSymbols), make([]byte, 0, 4*blockSymbols)
	for b.Loop() {
		for part := range slices.Chunk(symbols, blockSymbols) {
			out = e.block(out[:0], part, scratch)
		}
	}
	b.ReportMetric(5*float64(len(symbols))*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gcodes/s")
}

func FuzzRANS(f *testing.F) {
	f.Add([]byte{}, uint8(0), []byte{})
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8}, uint8(0), []byte{3, 1})
	f.Add(bytes.Repeat([]byte{124}, 1000), uint8(1), []byte{20, 255})
	f.Add([]byte{31, 0, 30, 31}, uint8(2), []byte{0, 1, 4, 16})
	f.Fuzz(func(t *testing.T, values []byte, level uint8, damage []byte) {
		l := []quant.Levels{quant.Ternary, quant.Quinary, quant.Sparse}[level%3]
		values = slices.Clone(values[:min(len(values), blockSymbols)])
		for i := range values {
			values[i] %= byte(alphabet(l))
		}
		if len(values) == 0 {
			return
		}
		e, d, symbols, text := coders(l, values)
		m, rest, wrong := parseModel(l, text)
		var again decoder
		if wrong != "" || len(rest) > 0 {
			t.Fatalf("model %x: %s", text, wrong)
		}
		if again.set(m); again != *d {
			t.Fatalf("model %x is another", text)
		}
		data := e.block(nil, symbols, make([]byte, stateBytes+2*len(symbols)))
		back := make([]byte, len(symbols))
		if wrong, at := d.block(back, data); wrong != "" || !bytes.Equal(back, symbols) {
			t.Fatalf("%s at %d", wrong, at)
		}
		// Damaged data and models are refused, or stand for something else; nothing worse.
		for i := 0; i+1 < len(damage); i += 2 {
			data[int(damage[i])*len(data)/256] ^= damage[i+1]
			text[int(damage[i])*len(text)/256] ^= damage[i+1]
		}
		d.block(back, data)
		d.block(back, data[:len(data)/4*2])
		if m, _, wrong := parseModel(l, text); wrong == "" {
			sum := uint32(0)
			for _, f := range m.freq {
				sum += f
			}
			if sum != total {
				t.Fatalf("model %x sums up to %d", text, sum)
			}
			d.set(m)
			d.block(back, data)
		}
	})
}
