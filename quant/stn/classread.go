// SPDX-License-Identifier: Apache-2.0

package stn

import "github.com/setun-compute/setun/quant"

// classWorkspace is what decoding Classes needs besides a workspace.
type classWorkspace struct {
	model    classModel // of the segment that the workspace is at
	columns  []uint32   // sorted by class
	starts   [1<<classBits + 1]int
	decoders []*decoder // of each pair; then of each class of columns, for a group that is not full
	have     uint64     // which of them are of this segment
	rows     []uint32   // of the block, sorted by class
	begins   [1<<classBits + 1]int
	some     []byte // symbols of a run
	unwanted []byte // a row that nobody asked for
}

// set turns to another segment.
func (c *classWorkspace) set(m classModel, cols int) {
	c.model, c.have = m, 0
	c.columns = grown(c.columns, cols)
	if m.colBits > 0 {
		sorted(c.columns, &c.starts, func(i int) int { return classAt(m.cols, i, m.colBits) })
	} else {
		c.starts = [1<<classBits + 1]int{}
		for i := range c.starts[1:] {
			c.starts[i+1] = cols
		}
	}
}

// decoder returns that of pair for groups of so many rows. It is made when it is first needed: a short tensor has few symbols, and most of its time goes into these.
func (c *classWorkspace) decoder(pair, rows int) *decoder {
	n := pair
	if rows < groupRows { // of one group alone, so that pair tells enough
		n = 1<<pairBits + pair&(1<<c.model.colBits-1)
	}
	if len(c.decoders) <= n {
		c.decoders = append(c.decoders, make([]*decoder, n+1-len(c.decoders))...)
	}
	if c.decoders[n] == nil {
		c.decoders[n] = new(decoder)
	}
	if c.have>>n&1 == 0 {
		c.have |= 1 << n
		c.decoders[n].set(groupModel(c.model.weights(pair), rows))
	}
	return c.decoders[n]
}

// runs calls each with the runs of a block whose rows are sorted: groups of one class of rows, in one class of columns. begins says where each class of rows begins, in rows.
func runs(begins, starts *[1<<classBits + 1]int, colBits int, each func(pair, rows, groups, cols int) bool) {
	all := begins[1<<classBits]
	for at := 0; at < all; {
		class := 0 // of the group's first row
		for begins[class+1] <= at {
			class++
		}
		groups, rows := (begins[class+1]-at+groupRows-1)/groupRows, groupRows
		if at+groups*groupRows > all { // the last group is not full
			if groups--; groups == 0 {
				groups, rows = 1, all-at
			}
		}
		for j := range 1 << colBits {
			if n := starts[j+1] - starts[j]; n > 0 && !each(class<<colBits|j, rows, groups, n) {
				return
			}
		}
		at += groups * rows
	}
}

// classBlock decodes a block to w.symbols, and its rows to w.classes.
func (f *File) classBlock(w *workspace, n, block int) *Error {
	b, e := f.index(n)
	if e != nil {
		return e
	}
	t, c := &f.tensors[n], &w.classes
	if segment := block / t.classBlocks(); w.tensor != n || w.segment != segment {
		w.tensor, w.segment = n, segment
		c.set(b.classes[segment], t.Cols)
	}
	s := Section{b.begins[block], b.begins[block+1] - b.begins[block]}
	data, e := f.bytes(s)
	if e != nil {
		return e
	}
	wrong, at := c.decode(w, data, min(t.classRows(), t.Rows-block*t.classRows()), t.Cols)
	if wrong != "" {
		return fail(ErrFormat, s.Offset+int64(at), "block %d: %s", block, wrong)
	}
	return nil
}

// decode is classBlock for so many rows. What is wrong comes as a text, with the byte of data at fault.
func (c *classWorkspace) decode(w *workspace, data []byte, rows, cols int) (wrong string, at int) {
	n, size := c.model.rowBits, len(data)
	bytes := (rows*n + 7) / 8
	if size < bytes {
		return "a block that ends within the classes of its rows", 0
	}
	list := data[:bytes]
	if used := rows * n % 8; used != 0 && list[bytes-1]>>used != 0 {
		return "classes of rows that go on beyond the last one", bytes - 1
	}
	c.rows = grown(c.rows, rows)
	sorted(c.rows, &c.begins, func(i int) int {
		if n == 0 {
			return 0
		}
		return classAt(list, i, n)
	})
	var st states
	if wrong, at = st.begin(data[bytes:]); wrong != "" {
		return wrong, bytes + at
	}
	w.symbols = grown(w.symbols, (rows+groupRows-1)/groupRows*cols) // of one group after the other, each in the order of columns
	group, done := 0, 0                                             // the run's first one, and the columns that were before it
	runs(&c.begins, &c.starts, c.model.colBits, func(pair, rows, groups, n int) bool {
		wrong = c.run(&st, c.decoder(pair, rows), w.symbols[group*cols:][:groups*cols], c.columns[done:done+n], cols)
		if done += n; done == cols {
			group, done = group+groups, 0
		}
		return wrong == ""
	})
	if wrong != "" {
		return wrong, size
	}
	wrong, unused := st.end()
	return wrong, size - unused
}

// run decodes some columns of the groups whose symbols are dst.
func (c *classWorkspace) run(st *states, d *decoder, dst []byte, columns []uint32, cols int) (wrong string) {
	n := len(columns)
	switch groups := len(dst) / cols; {
	case n == cols: // all: they are in order
		return st.run(d, dst)
	case n < fewColumns:
		c.some = grown(c.some, n*groups)
		wrong = st.run(d, c.some)
		for g := range groups {
			line, part := dst[g*cols:][:cols], c.some[g*n:][:n]
			for i, column := range columns {
				line[column] = part[i]
			}
		}
	default:
		for g := 0; g < groups && wrong == ""; g++ {
			wrong = st.scatter(d, dst[g*cols:][:cols], columns)
		}
	}
	return wrong
}

// fewColumns is how many columns are too few to be decoded to their places: each group ends with up to three that take longer.
const fewColumns = 128

// classes decodes rows.
func (f *File) classes(n int, t *Info, first int, dst *quant.Tensor) *Error {
	w := f.workspace()
	defer f.pool.Put(w)
	c := &w.classes
	per := t.classRows()
	bytes := quant.Base3.RowBytes(t.Cols)
	c.unwanted = grown(c.unwanted, bytes)
	for block := first / per; block*per < first+dst.Rows; block++ {
		if e := f.classBlock(w, n, block); e != nil {
			return e
		}
		begin := block*per - first // the block's first row, in dst
		for g := 0; g*groupRows < len(c.rows); g++ {
			var out [groupRows][]byte
			wanted := false
			for k := range out {
				out[k] = c.unwanted
				if g*groupRows+k >= len(c.rows) {
					continue
				}
				if r := begin + int(c.rows[g*groupRows+k]); r >= 0 && r < dst.Rows {
					out[k] = dst.Packed[r*bytes:][:bytes]
					wanted = true
				}
			}
			if wanted {
				unpackGroup(&out, w.symbols[g*t.Cols:][:t.Cols])
			}
		}
	}
	return nil
}

// spread has the five digits of each byte of base 3, code + 1, in bytes from the lowest on.
var spread = func() (t [256]uint64) {
	for b := range t {
		for k, code := range base3Digits[b] {
			t[b] |= uint64(code+1) << (8 * k)
		}
	}
	return t
}()

// base3Byte is the byte of base 3 of each value; those beyond 242 do not happen.
var base3Byte = func() (t [256]byte) {
	for v := range 243 {
		t[v] = symbolByte(quant.Ternary, v)
	}
	return t
}()

// unpackGroup turns symbols of five rows and one column each into five rows of base 3.
func unpackGroup(out *[groupRows][]byte, symbols []byte) {
	for at := 0; len(symbols) > 0; at += 64 {
		n := min(320, len(symbols))
		m := (n + 4) / 5
		full := max(0, n-4*m) // places with five columns
		if full > 0 {
			s0 := symbols[:full]
			s1, s2, s3, s4 := symbols[m:][:len(s0)], symbols[2*m:][:len(s0)], symbols[3*m:][:len(s0)], symbols[4*m:][:len(s0)]
			d0, d1, d2, d3, d4 := out[0][at:][:len(s0)], out[1][at:][:len(s0)], out[2][at:][:len(s0)], out[3][at:][:len(s0)], out[4][at:][:len(s0)]
			for i := range s0 {
				// Five values below 243 in five bytes: nothing is carried from one to the next.
				v := 81*spread[s0[i]] + 27*spread[s1[i]] + 9*spread[s2[i]] + 3*spread[s3[i]] + spread[s4[i]]
				d0[i], d1[i], d2[i], d3[i], d4[i] = base3Byte[byte(v)], base3Byte[byte(v>>8)], base3Byte[byte(v>>16)], base3Byte[byte(v>>24)], base3Byte[byte(v>>32)]
			}
		}
		for i := full; i < m; i++ {
			v := uint64(0)
			for p := range 5 {
				digits := uint64(0x0101010101) // beyond the row's end
				if i+p*m < n {
					digits = spread[symbols[i+p*m]]
				}
				v = 3*v + digits
			}
			for k := range out {
				out[k][at+i] = base3Byte[byte(v>>(8*k))]
			}
		}
		symbols = symbols[n:]
	}
}
