// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"encoding/binary"
	"io"
	"slices"

	"github.com/setun-compute/setun/quant"
)

// filled is how many rows of a block are moved between classes to fill groups, at most: of more, few are in groups that are not full, and looking takes long.
const filled = 4096

// classCoder gathers the codes of a segment, divides its rows and columns into classes and writes it.
type classCoder struct {
	info    *Info
	out     io.Writer
	codes   []int8 // of the segment, so far
	lengths []byte // of all blocks
	models  []byte
	symbols []byte
	scratch []byte
	block   []byte
	columns []uint32
	starts  [1<<classBits + 1]int
	segment
}

// segment is what the blocks of one segment share.
type segment struct {
	classes
	model    classModel
	encoders [2]map[int]*encoder // by pair, of full groups and of one that is not
}

func (c *classCoder) add(chunk *quant.Tensor) error {
	i := c.info
	full := i.classBlocks() * i.classRows() * i.Cols
	for r := range chunk.Rows {
		n := len(c.codes)
		c.codes = slices.Grow(c.codes, i.Cols)[:n+i.Cols]
		unpackRow(c.codes[n:], chunk, r)
		if len(c.codes) == full {
			if err := c.write(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *classCoder) finish() ([]byte, error) {
	if len(c.codes) > 0 {
		if err := c.write(); err != nil {
			return nil, err
		}
	}
	return append(c.lengths, c.models...), nil
}

// write writes the segment that was gathered.
func (c *classCoder) write() error {
	m := matrix{c.codes, c.info.Cols}
	c.segment = segment{classes: fit(m), encoders: [2]map[int]*encoder{{}, {}}}
	per := c.info.classRows()
	list := m.byRow(c.cols, c.colBits)
	if c.rowBits > 0 && per <= filled {
		table := pricesOfClasses(list, c.colBits, c.rows, c.rowBits)
		for first := 0; first < m.rows(); first += per {
			rows := c.rows[first:min(first+per, m.rows())]
			fill(list[first<<c.colBits:], c.colBits, table, rows, c.rowBits)
		}
	}
	c.tables(list, per)
	c.columns = grown(c.columns, m.cols)
	sorted(c.columns, &c.starts, func(i int) int { return int(c.cols[i]) })
	for first := 0; first < m.rows(); first += per {
		last := min(first+per, m.rows())
		if err := c.writeBlock(m.codes[first*m.cols:last*m.cols], c.rows[first:last]); err != nil {
			return err
		}
	}
	c.codes = c.codes[:0]
	return nil
}

// fill moves rows of a block to other classes, as cheaply as it can, so that each class but the last one fills its groups: those in a group have the tables of its first row.
func fill(list []counts, other int, table []prices, rows []byte, bits int) {
	// worst is the row that is cheapest to move from its class to another one, of those that may.
	move := func(may func(class int) bool, to func(class, target int) bool) (row, target int, extra int64) {
		row = -1
		for r, class := range rows {
			if !may(int(class)) {
				continue
			}
			own := list[r<<other:][:1<<other]
			now := priceIn(own, table, other, int(class))
			for k := range 1 << bits {
				if !to(int(class), k) {
					continue
				}
				if d := int64(priceIn(own, table, other, k)) - int64(now); row < 0 || d < extra {
					row, target, extra = r, k, d
				}
			}
		}
		return row, target, extra
	}
	for i := range 1<<bits - 1 {
		have := 0
		for _, class := range rows {
			if int(class) == i {
				have++
			}
		}
		over := have % groupRows
		// Either some come from later classes, or some go there.
		best, least := []byte(nil), int64(0)
		for _, try := range []struct {
			n       int
			may, to func(a int) bool
		}{
			{(groupRows - over) % groupRows, func(a int) bool { return a > i }, func(a int) bool { return a == i }},
			{over, func(a int) bool { return a == i }, func(a int) bool { return a > i }},
		} {
			before, sum, done := slices.Clone(rows), int64(0), 0
			for ; done < try.n; done++ {
				row, target, extra := move(try.may, func(_, k int) bool { return try.to(k) })
				if row < 0 {
					break
				}
				rows[row] = byte(target)
				sum += extra
			}
			if done == try.n && (best == nil || sum < least) {
				best, least = slices.Clone(rows), sum
			}
			copy(rows, before)
		}
		if best != nil {
			copy(rows, best)
		}
	}
}

// tables finds the tables of the segment's pairs: of all codes that have them, also those of rows of another class than their group's first one. It adds the segment's model to the
// index.
func (c *classCoder) tables(list []counts, per int) {
	sums := make([]counts, 1<<(c.rowBits+c.colBits))
	order := make([]uint32, per)
	var begins [1<<classBits + 1]int
	for first := 0; first < len(c.rows); first += per {
		rows := c.rows[first:min(first+per, len(c.rows))]
		sorted(order[:len(rows)], &begins, func(i int) int { return int(rows[i]) })
		for k := range rows {
			class := int(rows[order[k/groupRows*groupRows]])
			for j := range 1 << c.colBits {
				sums[class<<c.colBits|j].add(&list[(first+int(order[k]))<<c.colBits|j])
			}
		}
	}
	m := &c.model
	m.rowBits, m.colBits, m.cols = c.rowBits, c.colBits, appendClasses(nil, c.cols, c.colBits)
	for i := range sums {
		minus, plus := sums[i].table()
		m.tables = append(m.tables, minus, plus)
	}
	c.models = append(c.models, byte(m.rowBits|m.colBits<<4))
	c.models = append(append(c.models, m.cols...), m.tables...)
}

// encoder returns that of a pair for groups of so many rows.
func (s *segment) encoder(pair, rows int) *encoder {
	own := s.encoders[0]
	if rows < groupRows {
		own = s.encoders[1] // of the tensor's last group: there is no other
	}
	if own[pair] == nil {
		own[pair] = new(encoder)
		own[pair].set(groupModel(s.model.weights(pair), rows))
	}
	return own[pair]
}

// writeBlock writes a block of rows of some classes.
func (c *classCoder) writeBlock(codes []int8, rows []byte) error {
	cols := c.info.Cols
	order := make([]uint32, len(rows))
	var begins [1<<classBits + 1]int
	sorted(order, &begins, func(i int) int { return int(rows[i]) })
	c.symbols = grown(c.symbols, (len(rows)+groupRows-1)/groupRows*cols)
	left := c.symbols
	var list []encoderRun
	at, done := 0, 0 // the first row of the run, and the columns that were before it
	runs(&begins, &c.starts, c.colBits, func(pair, high, groups, n int) bool {
		j := pair & (1<<c.colBits - 1)
		run := left[:groups*n]
		left = left[len(run):]
		for g := range groups {
			c.group(run[g*n:][:n], codes, order[at+g*high:][:high], c.columns[c.starts[j]:c.starts[j+1]])
		}
		list = append(list, encoderRun{c.encoder(pair, high), run})
		if done += n; done == cols { // the next run has other rows
			at, done = at+groups*high, 0
		}
		return true
	})
	c.scratch = grown(c.scratch, stateBytes+2*len(c.symbols))
	c.block = encodeRuns(appendClasses(c.block[:0], rows, c.rowBits), list, c.scratch)
	c.lengths = binary.LittleEndian.AppendUint32(c.lengths, uint32(len(c.block)))
	_, err := c.out.Write(c.block)
	return err
}

// group makes the symbols of some columns of a group of rows.
func (c *classCoder) group(dst []byte, codes []int8, rows, columns []uint32) {
	cols := c.info.Cols
	for i, column := range columns {
		v := 0
		for k := range groupRows {
			digit := 1
			if k < len(rows) {
				digit = int(codes[int(rows[k])*cols+int(column)]) + 1
			}
			v = 3*v + digit
		}
		dst[i] = base3Byte[v]
	}
}
