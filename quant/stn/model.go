// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/setun-compute/setun/quant"
)

const (
	scaleBits = 14 // the frequencies of a model sum up to 1 << scaleBits
	total     = 1 << scaleBits

	weightBits = 12 // the weights of digits sum up to 1 << weightBits

	ofDigits = 0 // kinds of models
	ofTable  = 1

	maxModel = 1 + 3*243 // bytes of the longest model
)

// model is how often each symbol is expected.
type model struct {
	levels quant.Levels
	freq   []uint32 // of each symbol's value; their sum is total
}

// alphabet returns how many symbols there are.
func alphabet(l quant.Levels) int {
	switch l {
	case quant.Quinary:
		return 125
	case quant.Sparse:
		return 32
	}
	return 243
}

// symbolByte returns the byte that stands for the symbol of a value: in ternary, the byte of base 3 as it lies in memory, so that what is decoded needs no further step.
func symbolByte(l quant.Levels, value int) byte {
	if l == quant.Ternary {
		return byte((256*value + 242) / 243)
	}
	return byte(value)
}

// digitModel derives frequencies from how often each code appears, as if codes were independent: bytes enough for the smallest tensor. weights sum up to 1 << weightBits; for
// Sparse there are none, and all symbols
// are equally frequent.
func digitModel(l quant.Levels, weights []uint32) model {
	m := model{l, make([]uint32, alphabet(l))}
	if l == quant.Sparse {
		for v := range m.freq {
			m.freq[v] = total / 32
		}
		return m
	}
	places, base := int(symbolCodes(l)), len(weights)
	product := func(v int) uint64 {
		p := uint64(1)
		for range places {
			p *= uint64(weights[v%base])
			v /= base
		}
		return p
	}
	products := make([]uint64, len(m.freq))
	for v := range products {
		products[v] = product(v)
	}
	m.share(products, uint(weightBits*places))
	return m
}

// parseModel reads a model and returns what follows it. What is wrong comes as a text, empty when nothing is.
func parseModel(l quant.Levels, data []byte) (m model, rest []byte, wrong string) {
	if len(data) == 0 {
		return m, nil, "the model is missing"
	}
	kind, data := data[0], data[1:]
	switch kind {
	case ofDigits:
		var weights []uint32
		if l != quant.Sparse {
			n := int(l)
			if len(data) < 2*n {
				return m, nil, "the weights end early"
			}
			sum := uint32(0)
			for d := range n {
				weights = append(weights, uint32(binary.LittleEndian.Uint16(data[2*d:])))
				sum += weights[d]
			}
			if sum != 1<<weightBits {
				return m, nil, "the weights do not sum up to 4096"
			}
			data = data[2*n:]
		}
		return digitModel(l, weights), data, ""
	case ofTable:
		m = model{l, make([]uint32, alphabet(l))}
		sum := uint32(0)
		for v := 0; v < len(m.freq); v++ {
			f, n := shortVarint(data)
			if n == 0 {
				return m, nil, "a frequency is not valid, or missing"
			}
			data = data[n:]
			if f == 0 {
				zeros, n := shortVarint(data)
				if n == 0 || int(zeros) >= len(m.freq)-v {
					return m, nil, "a run of zeros is not valid, or missing"
				}
				data = data[n:]
				v += int(zeros)
				continue
			}
			m.freq[v] = f
			sum += f
		}
		if sum != total {
			return m, nil, "the frequencies do not sum up to 16384"
		}
		return m, data, ""
	}
	return m, nil, "the kind of model is not known"
}

// shortVarint reads a little-endian base-128 number of at most three bytes, the shortest form only. n is 0 when there is none.
func shortVarint(data []byte) (v uint32, n int) {
	for i := 0; i < len(data) && i < 3; i++ {
		v |= uint32(data[i]&127) << (7 * i)
		if data[i] < 128 {
			if i > 0 && data[i] == 0 {
				return 0, 0
			}
			return v, i + 1
		}
	}
	return 0, 0
}

// chooseModel returns the model that makes a segment smallest, and its bytes. counts are of symbol values. Integers only: the same everywhere.
func chooseModel(l quant.Levels, counts []uint64) (model, []byte) {
	var weights []uint32
	text := []byte{ofDigits}
	if l != quant.Sparse {
		digits := make([]uint64, l)
		for v, c := range counts {
			for range symbolCodes(l) {
				digits[v%int(l)] += c
				v /= int(l)
			}
		}
		weights = normalise(digits, 1<<weightBits)
		for _, w := range weights {
			text = binary.LittleEndian.AppendUint16(text, uint16(w))
		}
	}
	simple := digitModel(l, weights)
	table := model{l, normalise(counts, total)}
	tableText := []byte{ofTable}
	for v := 0; v < len(table.freq); v++ {
		tableText = binary.AppendUvarint(tableText, uint64(table.freq[v]))
		if table.freq[v] == 0 {
			first := v
			for v+1 < len(table.freq) && table.freq[v+1] == 0 {
				v++
			}
			tableText = binary.AppendUvarint(tableText, uint64(v-first))
		}
	}
	if cost(counts, table)+8*uint64(len(tableText)) < cost(counts, simple)+8*uint64(len(text)) {
		return table, tableText
	}
	return simple, text
}

// normalise scales counts, not all of them 0, to frequencies that sum up to sum, at least 1 for what appears at all.
func normalise(counts []uint64, sum uint32) []uint32 {
	var all uint64
	for _, c := range counts {
		all += c
	}
	freq := make([]uint32, len(counts))
	order := make([]int, 0, len(counts)) // by how much rounding down took
	left := int64(sum)
	for v, c := range counts {
		if c > 0 {
			freq[v] = max(1, uint32(c*uint64(sum)/all))
			left -= int64(freq[v])
			order = append(order, v)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		ra, rb := counts[a]*uint64(sum)%all, counts[b]*uint64(sum)%all
		switch {
		case ra > rb:
			return -1
		case ra < rb:
			return 1
		}
		return 0
	})
	for i := 0; left > 0; i = (i + 1) % len(order) {
		freq[order[i]]++
		left--
	}
	for ; left < 0; left++ { // those raised to 1 took too much
		most := 0
		for v := range freq {
			if freq[v] > freq[most] {
				most = v
			}
		}
		freq[most]--
	}
	return freq
}

// cost returns the bits that symbols take under a model, nearly.
func cost(counts []uint64, m model) uint64 {
	var n uint64
	for v, c := range counts {
		if c > 0 {
			n += c * uint64(scaleBits<<16-log2(m.freq[v]))
		}
	}
	return n >> 16
}

// log2 returns the logarithm of x > 0 in units of 2^-16, rounded down.
func log2(x uint32) uint32 {
	n := bits.Len32(x) - 1
	r, m := uint32(n), uint64(x)<<(31-n)
	for range 16 {
		m = m * m >> 31
		r <<= 1
		if m >= 1<<32 {
			m >>= 1
			r |= 1
		}
	}
	return r
}
