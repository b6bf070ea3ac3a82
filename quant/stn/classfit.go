// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"cmp"
	"slices"
)

const (
	fitSample = 1 << 19 // codes that classes are found on
	fitRows   = 1 << 12 // rows of them, at most
	fitCols   = 1 << 16 // columns of longer rows are all of one class
	fitRounds = 3       // of rows and columns in turns
	lloydMost = 10      // rounds of one side
)

// classes is how a matrix is divided.
type classes struct {
	rowBits, colBits int
	rows, cols       []byte // class of each
}

// counts are of the codes −1, 0, 1.
type counts [3]uint32

func (c *counts) add(d *counts) {
	for i := range c {
		c[i] += d[i]
	}
}

// table returns the bytes of the table that suits the codes best, of those with a weight for each code that is there.
func (c *counts) table() (minus, plus byte) {
	n := uint64(c[0]) + uint64(c[1]) + uint64(c[2])
	if n == 0 {
		return 85, 85
	}
	share := func(k uint32) uint64 {
		s := (uint64(k)*512 + n) / (2 * n)
		if k > 0 {
			s = max(s, 1)
		}
		return min(s, 255)
	}
	m, p, most := share(c[0]), share(c[2]), uint64(256)
	if c[1] > 0 {
		most--
	}
	for m+p > most {
		if m > p {
			m--
		} else {
			p--
		}
	}
	return byte(m), byte(p)
}

// prices are what each code takes under a table, in 2^-16 bits: dear, but not without end, where its weight is 0.
type prices [3]uint64

func pricesOf(minus, plus byte) (p prices) {
	for i, w := range tableWeights(minus, plus) {
		p[i] = 16 << 16
		if w > 0 {
			p[i] = weightBits<<16 - uint64(log2(w))
		}
	}
	return p
}

func (p *prices) of(c *counts) uint64 {
	return uint64(c[0])*p[0] + uint64(c[1])*p[1] + uint64(c[2])*p[2]
}

// matrix is codes in rows.
type matrix struct {
	codes []int8
	cols  int
}

func (m *matrix) rows() int { return len(m.codes) / m.cols }

// byRow counts the codes of each row in each class of columns: entry row<<bits | class.
func (m *matrix) byRow(cols []byte, bits int) []counts {
	list := make([]counts, m.rows()<<bits)
	for r := range m.rows() {
		own := list[r<<bits:][:1<<bits]
		for c, code := range m.codes[r*m.cols:][:m.cols] {
			own[cols[c]][code+1]++
		}
	}
	return list
}

// byCol counts the codes of each column in each class of rows: entry column<<bits | class.
func (m *matrix) byCol(rows []byte, bits int) []counts {
	list := make([]counts, m.cols<<bits)
	for r := range m.rows() {
		own := list[rows[r]:]
		for c, code := range m.codes[r*m.cols:][:m.cols] {
			own[c<<bits][code+1]++
		}
	}
	return list
}

// pricesOfClasses returns the prices of the tables that suit items best as they are divided: entry class<<other | class of the other side.
func pricesOfClasses(list []counts, other int, class []byte, bits int) []prices {
	sums := make([]counts, 1<<(bits+other))
	for i, c := range class {
		for j := range 1 << other {
			sums[int(c)<<other|j].add(&list[i<<other|j])
		}
	}
	out := make([]prices, len(sums))
	for i := range sums {
		out[i] = pricesOf(sums[i].table())
	}
	return out
}

// priceIn returns what an item's codes take in a class.
func priceIn(own []counts, table []prices, other, class int) uint64 {
	n := uint64(0)
	for j := range own {
		n += table[class<<other|j].of(&own[j])
	}
	return n
}

// nearest puts each item in the class where it takes the fewest bits, and says whether any of them moved.
func nearest(list []counts, other int, table []prices, class []byte, bits int) bool {
	moved := false
	for i := range class {
		own := list[i<<other:][:1<<other]
		best, least := 0, priceIn(own, table, other, 0)
		for k := 1; k < 1<<bits; k++ {
			if n := priceIn(own, table, other, k); n < least {
				best, least = k, n
			}
		}
		moved = moved || int(class[i]) != best
		class[i] = byte(best)
	}
	return moved
}

// lloyd improves classes of one side (Lloyd 1982, with bits for distance): tables for the classes, classes by the tables, in turns.
func lloyd(list []counts, other int, class []byte, bits, rounds int) {
	for range rounds {
		if !nearest(list, other, pricesOfClasses(list, other, class, bits), class, bits) {
			return
		}
	}
}

// quantiles divides items into classes of equally many, by their share of zeros or by how much they lean to one sign.
func quantiles(list []counts, bySign bool, bits int) []byte {
	key := make([]int64, len(list))
	order := make([]int, len(list))
	for i := range list {
		order[i] = i
		if key[i] = int64(list[i][1]); bySign {
			key[i] = int64(list[i][2]) - int64(list[i][0])
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(key[a], key[b]) })
	class := make([]byte, len(list))
	for place, i := range order {
		class[i] = byte(place << bits / len(order))
	}
	return class
}

// fitter looks for the classes with which a segment takes the fewest bits.
type fitter struct {
	m        matrix // the segment, or rows of it
	all      int    // rows of the segment
	rowStats []counts
	colStats []counts
	best     classes
	least    uint64 // bits of the segment in the best classes, in 2^-16, nearly
}

// fit divides a segment. Integers only: the same everywhere.
func fit(m matrix) classes {
	f := &fitter{m: m, all: m.rows()}
	if n := min(fitRows, max(64, fitSample/m.cols)); f.all > n { // rows that are spread evenly
		f.m.codes = make([]int8, 0, n*m.cols)
		for k := range n {
			f.m.codes = append(f.m.codes, m.codes[k*f.all/n*m.cols:][:m.cols]...)
		}
	}
	one := classes{rows: make([]byte, f.m.rows()), cols: make([]byte, m.cols)}
	f.rowStats, f.colStats = f.m.byRow(one.cols, 0), f.m.byCol(one.rows, 0)
	f.least = f.cost(&one, f.rowStats)
	f.best = one
	alone := f.least
	most := classBits // of columns
	if m.cols > fitCols {
		most = 0
	}
	for k := 1; k <= classBits; k++ {
		f.try(k, 0, false, false)
	}
	for k := 1; k <= most; k++ {
		f.try(0, k, false, false)
		f.try(0, k, false, true)
	}
	modes, least := 0, ^uint64(0)
	for mode := range 4 * min(1, most) { // rows and columns may tell something together that neither does alone, such as signs
		if n := f.try(2, 2, mode&1 != 0, mode&2 != 0); n < least {
			modes, least = mode, n
		}
	}
	if f.least < alone && most > 0 {
		for _, k := range [][2]int{{1, 1}, {1, 2}, {2, 1}, {1, 3}, {3, 1}} {
			f.try(k[0], k[1], modes&1 != 0, modes&2 != 0)
		}
	}
	if f.m.rows() < f.all {
		f.extend(&m)
	}
	return f.best
}

// cost returns the bits of the segment in some classes, in 2^-16, nearly. list is by row.
func (f *fitter) cost(c *classes, list []counts) uint64 {
	table := pricesOfClasses(list, c.colBits, c.rows, c.rowBits)
	n := uint64(0)
	for r, class := range c.rows {
		n += priceIn(list[r<<c.colBits:][:1<<c.colBits], table, c.colBits, int(class))
	}
	n = n / uint64(len(c.rows)) * uint64(f.all)
	return n + uint64(f.all*c.rowBits+len(c.cols)*c.colBits+16<<(c.rowBits+c.colBits))<<16
}

// try divides rows and columns into so many classes, improves them and keeps them if they are the best so far.
func (f *fitter) try(rowBits, colBits int, rowsBySign, colsBySign bool) uint64 {
	c := classes{rowBits, colBits, quantiles(f.rowStats, rowsBySign, rowBits), quantiles(f.colStats, colsBySign, colBits)}
	lloyd(f.rowStats, 0, c.rows, rowBits, lloydMost)
	lloyd(f.colStats, 0, c.cols, colBits, lloydMost)
	rounds := fitRounds
	if rowBits == 0 || colBits == 0 { // nothing to take turns with
		rounds = 0
	}
	list := f.m.byRow(c.cols, colBits)
	for range rounds {
		lloyd(list, colBits, c.rows, rowBits, lloydMost)
		lloyd(f.m.byCol(c.rows, rowBits), rowBits, c.cols, colBits, lloydMost)
		list = f.m.byRow(c.cols, colBits)
	}
	n := f.cost(&c, list)
	if n < f.least {
		f.best, f.least = c, n
	}
	return n
}

// extend finds the classes of all rows from those of a part of them, and classes of columns from all rows.
func (f *fitter) extend(m *matrix) {
	c := &f.best
	table := pricesOfClasses(f.m.byRow(c.cols, c.colBits), c.colBits, c.rows, c.rowBits)
	c.rows = make([]byte, f.all)
	if c.rowBits+c.colBits == 0 {
		return
	}
	nearest(m.byRow(c.cols, c.colBits), c.colBits, table, c.rows, c.rowBits)
	if c.colBits > 0 {
		lloyd(m.byCol(c.rows, c.rowBits), c.rowBits, c.cols, c.colBits, 2)
		lloyd(m.byRow(c.cols, c.colBits), c.colBits, c.rows, c.rowBits, 1)
	}
}
