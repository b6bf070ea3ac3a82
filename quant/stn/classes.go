// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"math/bits"

	"github.com/setun-compute/setun/quant"
)

const (
	groupRows    = 5       // rows of a group: a symbol of Classes has a code of each, all of one column
	classBits    = 3       // rows have at most 1 << classBits classes, and so have columns
	pairBits     = 5       // pairs of classes are at most 1 << pairBits, because each has a table
	wideBlock    = 1 << 18 // symbols of a block, at most, unless one group has more
	blockGroups  = 8       // groups of a block, at least, while that is within wideBlock: rows are sorted within it
	classSegment = 1 << 20 // symbols of the blocks that share classes of columns and tables, at most, unless one block has more
)

// classGroups returns the groups of a block of Classes.
func (i *Info) classGroups() int {
	cols := int64(i.Cols)
	return int(max(ceil(blockSymbols, cols), min(blockGroups, wideBlock/cols), 1))
}

// classRows returns the rows of a block of Classes.
func (i *Info) classRows() int { return groupRows * i.classGroups() }

// classBlocks returns the blocks of a segment of Classes.
func (i *Info) classBlocks() int {
	return int(max(1, classSegment/(int64(i.classGroups())*int64(i.Cols))))
}

// classSegments returns how many segments there are.
func (i *Info) classSegments() int64 { return ceil(i.blocks(), int64(i.classBlocks())) }

// classModel is what a segment of Classes says of its columns and tables.
type classModel struct {
	rowBits, colBits int
	cols             []byte // the class of each column, colBits each
	tables           []byte // minus and plus of each pair, those of row class 0 first
}

// weights returns the weights of the codes −1, 0 and 1 in a table. They sum up to 1 << weightBits.
func tableWeights(minus, plus byte) [3]uint32 {
	m, p := uint32(minus), uint32(plus)
	return [3]uint32{m << 4, (256 - m - p) << 4, p << 4}
}

func (m *classModel) weights(pair int) [3]uint32 {
	return tableWeights(m.tables[2*pair], m.tables[2*pair+1])
}

// parseClasses reads the model of a segment with so many columns and returns what follows it. Nothing is copied. What is wrong comes as a text, empty when nothing is.
func parseClasses(data []byte, cols int) (m classModel, rest []byte, wrong string) {
	if len(data) == 0 {
		return m, nil, "the classes are missing"
	}
	m.rowBits, m.colBits = int(data[0]&15), int(data[0]>>4)
	if m.rowBits > classBits || m.colBits > classBits || m.rowBits+m.colBits > pairBits {
		return m, nil, "there are too many classes"
	}
	data = data[1:]
	n, tables := (int64(cols)*int64(m.colBits)+7)/8, 2<<(m.rowBits+m.colBits)
	if int64(len(data)) < n+int64(tables) {
		return m, nil, "the classes of columns, or the tables, end early"
	}
	m.cols, m.tables, rest = data[:n], data[n:][:tables], data[n+int64(tables):]
	if used := int64(cols) * int64(m.colBits) % 8; used != 0 && m.cols[n-1]>>used != 0 {
		return m, nil, "the classes of columns go on beyond the last one"
	}
	for i := 0; i < tables; i += 2 {
		if int(m.tables[i])+int(m.tables[i+1]) > 256 {
			return m, nil, "the weights of a table are more than all"
		}
	}
	return m, rest, ""
}

// classAt returns entry i of a list of numbers of n bits.
func classAt(list []byte, i, n int) int {
	at := i * n
	v := int(list[at/8]) >> (at % 8)
	if at%8+n > 8 {
		v |= int(list[at/8+1]) << (8 - at%8)
	}
	return v & (1<<n - 1)
}

// appendClasses appends a list of numbers of n bits.
func appendClasses(dst, list []byte, n int) []byte {
	if n == 0 {
		return dst
	}
	var b bitWriter
	for _, v := range list {
		b.put(uint64(v), uint(n))
	}
	return append(dst, b.take()...)
}

// sorted lists what belongs to class 0, then what belongs to class 1, …, each in order; starts says where each class begins in it, and the last one ends. order has room for all.
func sorted(order []uint32, starts *[1<<classBits + 1]int, class func(i int) int) {
	*starts = [1<<classBits + 1]int{}
	for i := range order {
		starts[class(i)+1]++
	}
	for c := range 1 << classBits {
		starts[c+1] += starts[c]
	}
	next := *starts
	for i := range order {
		c := class(i)
		order[next[c]] = uint32(i)
		next[c]++
	}
}

// groupModel is digitModel of the codes of so many rows; a symbol's other codes are 0.
func groupModel(weights [3]uint32, rows int) model {
	var products [243]uint64
	products[0] = 1
	for n, digit := 1, 0; digit < groupRows; n, digit = 3*n, digit+1 {
		w := [3]uint64{uint64(weights[0]), uint64(weights[1]), uint64(weights[2])}
		if digit >= rows {
			w = [3]uint64{0, 1, 0}
		}
		for v := n - 1; v >= 0; v-- { // from the last one on, because each makes room for three
			p := products[v]
			products[3*v], products[3*v+1], products[3*v+2] = p*w[0], p*w[1], p*w[2]
		}
	}
	m := model{quant.Ternary, make([]uint32, len(products))}
	m.share(products[:], uint(weightBits*rows))
	return m
}

// share gives each symbol that is possible a frequency of 1, and shares the rest out by where the sum of the products has come to. They sum up to 1 << shift.
func (m *model) share(products []uint64, shift uint) {
	possible := 0
	for _, p := range products {
		if p > 0 {
			possible++
		}
	}
	var sum uint64
	last := uint32(0)
	for v, p := range products {
		if p == 0 {
			continue
		}
		sum += p
		hi, lo := bits.Mul64(sum, uint64(total-possible))
		upTo := uint32(hi<<(64-shift) | lo>>shift)
		m.freq[v] = 1 + upTo - last
		last = upTo
	}
}
