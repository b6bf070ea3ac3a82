// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// classed is a tensor of one scale whose codes depend on row and column, as docs/format-stn.md says.
func classed(rows, cols int) *quant.Tensor {
	q := new(quant.Tensor)
	q.Resize(rows, quant.Options{Levels: quant.Ternary, Format: quant.Int8, Cols: cols})
	q.Scales[0] = 1
	for i := range q.Codes {
		r, c := i/cols, i%cols
		switch x := (r*r*r + 5*c*c*c + r*c) % 13; {
		case x < 1+3*(c%4):
			q.Codes[i] = 1
		case x > 12-3*(r%4):
			q.Codes[i] = -1
		default:
			q.Codes[i] = 0
		}
	}
	return q
}

// divided returns random codes whose frequencies depend on classes of rows and columns.
func divided(r *rand.Rand, rows, cols, rowClasses, colClasses int) *quant.Tensor {
	q := random(r, quant.Ternary, rows, cols, []int{0, cols}[r.IntN(2)], 0.4)
	tables := make([][2]float64, rowClasses*colClasses)
	for i := range tables {
		a, b := r.Float64(), r.Float64()
		tables[i] = [2]float64{min(a, b), max(a, b)}
	}
	high, wide := make([]int, rows), make([]int, cols)
	for i := range high {
		high[i] = r.IntN(rowClasses)
	}
	for i := range wide {
		wide[i] = r.IntN(colClasses)
	}
	for i := range q.Codes {
		t, x := tables[high[i/cols]*colClasses+wide[i%cols]], r.Float64()
		q.Codes[i] = 0
		if x < t[0] {
			q.Codes[i] = -1
		} else if x > t[1] {
			q.Codes[i] = 1
		}
	}
	return q
}

// TestClassesRoundTrip: shapes around groups, blocks and segments, and all numbers of classes. Tensors in pieces, from other formats, have the same bytes: TestStreamedIsTheSame.
func TestClassesRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(20, 1))
	list := [][2]int{{1, 1}, {4, 3}, {5, 1}, {6, 2}, {9, 64}, {23, 60}, {128, 128}, {512, 128}, {131, 319}, {1283, 321}, {81, 4096}, {12, 70000}, {7, 300000}, {70000, 6}}
	if !testing.Short() {
		list = append(list, [2]int{1285, 4096}, [2]int{41000, 128})
	}
	for range 40 {
		list = append(list, [2]int{1 + r.IntN(200), 1 + r.IntN(400)})
	}
	bits := map[string]int{}
	for _, s := range list {
		q := divided(r, s[0], s[1], 1+r.IntN(8), 1+r.IntN(8))
		f := write(t, nil, func(w *Writer) error { return w.Add("w", nil, q, Classes) })
		what := fmt.Sprint(s)
		same(t, what, must(f.Tensor("w", nil))(t), q)
		for range 5 {
			first := r.IntN(q.Rows)
			n := 1 + r.IntN(q.Rows-first)
			same(t, what+", rows", must(f.Rows("w", first, n, nil))(t), part(q, first, n))
		}
		for _, m := range must(indexOf(f, 0))(t).classes {
			bits[fmt.Sprint(m.rowBits, m.colBits)]++
		}
	}
	if len(bits) < 6 {
		t.Errorf("classes of rows and columns were only %v", bits)
	}
}

func indexOf(f *File, n int) (*blocks, error) {
	b, e := f.index(n)
	if e != nil {
		return nil, e
	}
	return b, nil
}

// TestClassesPay where rows and columns differ, and are left alone where they do not.
func TestClassesPay(t *testing.T) {
	size := func(q *quant.Tensor, c Coding) float64 { return float64(must(EncodedSize(q, c))(t)) }
	for _, c := range []struct {
		what  string
		q     *quant.Tensor
		least float64 // how many times smaller than rans
	}{
		{"rows and columns differ", structured(512, 512, 0.5), 1.03},
		{"a small matrix", structured(128, 512, 0.5), 1.02},
		{"columns lean to a sign", divided(rand.New(rand.NewPCG(21, 1)), 512, 128, 1, 4), 1.02},
		{"rows and columns together", divided(rand.New(rand.NewPCG(22, 1)), 256, 256, 4, 4), 1.02},
	} {
		ratio := size(c.q, RANS) / size(c.q, Classes)
		t.Logf("%s: %.3f times smaller than rans", c.what, ratio)
		best, _, err := Smallest(c.q)
		if ratio < c.least || err != nil || best != Classes {
			t.Errorf("%s: %.3f times smaller than rans, at least %.3f is expected; the smallest is %v, %v", c.what, ratio, c.least, best, err)
		}
	}
	q := structured(1024, 1024, 0)
	best, n, err := Smallest(q)
	if err != nil || float64(n) > size(q, RANS) {
		t.Errorf("all alike: %v, %d bytes, %v; rans has %v", best, n, err, size(q, RANS))
	}
	if over := size(q, Classes) / size(q, RANS); over > 1.001 {
		t.Errorf("all alike: classes take %.4f times what rans takes", over)
	}
}

// TestGroupModels: frequencies sum up to all, and those of full groups are what rans has for the weights.
func TestGroupModels(t *testing.T) {
	for _, b := range [][2]byte{{85, 85}, {0, 0}, {255, 0}, {0, 255}, {255, 1}, {128, 128}, {1, 1}, {3, 200}} {
		w := tableWeights(b[0], b[1])
		if whole := digitModel(quant.Ternary, w[:]); !slices.Equal(groupModel(w, groupRows).freq, whole.freq) {
			t.Errorf("%v: not the frequencies of digits", b)
		}
		for rows := 1; rows <= groupRows; rows++ {
			sum := uint32(0)
			for _, f := range groupModel(w, rows).freq {
				sum += f
			}
			if sum != total {
				t.Errorf("%v, %d rows: frequencies sum up to %d", b, rows, sum)
			}
		}
	}
}

// TestTablesHaveWeightsForWhatIsThere.
func TestTablesHaveWeightsForWhatIsThere(t *testing.T) {
	for _, c := range []counts{{0, 0, 0}, {1, 0, 0}, {0, 0, 7}, {1, 1 << 30, 1}, {1 << 30, 1, 1}, {1, 1, 1 << 30}, {1 << 30, 0, 1 << 30}, {1 << 30, 1, 1 << 30}, {3, 0, 3}, {255, 0, 257}} {
		m, p := c.table()
		if int(m)+int(p) > 256 {
			t.Errorf("%v: %d and %d", c, m, p)
		}
		for i, w := range tableWeights(m, p) {
			if c[i] > 0 && w == 0 {
				t.Errorf("%v: code %d has no weight", c, i-1)
			}
		}
	}
}

// TestForgedClasses changes sections of a file and makes the checksums right again.
func TestForgedClasses(t *testing.T) {
	f := write(t, nil, func(w *Writer) error { return w.Add("w", nil, classed(23, 61), Classes) })
	m := must(indexOf(f, 0))(t).classes[0]
	i := must(f.Info("w"))(t)
	if m.rowBits != 1 || m.colBits != 2 { // 3 bytes of rows, 16 of columns
		t.Fatalf("%d and %d bits of classes", m.rowBits, m.colBits)
	}
	tables := 4 + 1 + len(m.cols)
	for name, c := range map[string]struct {
		edit func(codes, index []byte)
		says string
	}{
		"nothing":             {func(_, _ []byte) {}, ""},
		"16 classes":          {func(_, x []byte) { x[4] = 4 }, "too many classes"},
		"64 pairs":            {func(_, x []byte) { x[4] = 0x33 }, "too many classes"},
		"more classes":        {func(_, x []byte) { x[4] = 0x23 }, "end early"},
		"classes of no bits":  {func(_, x []byte) { x[4] = 0 }, "follow the index"},
		"a column more":       {func(_, x []byte) { x[tables-1] |= 0x80 }, "columns go on"},
		"weights":             {func(_, x []byte) { x[tables], x[tables+1] = 255, 2 }, "more than all"},
		"a row more":          {func(c, _ []byte) { c[2] |= 0x80 }, "rows that go on"},
		"another table":       {func(_, x []byte) { x[tables] -= 9 }, "block 0: "},
		"row in other class":  {func(c, _ []byte) { c[0] ^= 1 }, "block 0: "},
		"column of another":   {func(_, x []byte) { x[5] ^= 1 }, "block 0: "},
		"low state":           {func(c, _ []byte) { clear(c[3:7]) }, "state below"},
		"last word":           {func(c, _ []byte) { c[len(c)-1]++ }, "block 0: "},
		"lengths":             {func(_, x []byte) { x[0]++ }, "the blocks end at"},
		"a block, much later": {func(_, x []byte) { x[3]++ }, "the blocks end at"},
	} {
		data := slices.Clone(f.data)
		c.edit(data[i.Codes.Offset:i.Codes.end()], data[i.Index.Offset:i.Index.end()])
		data = join(split(data))
		g, err := parse(data, Options{})
		if err == nil {
			err = readAll(g)
		}
		if (c.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q", name, err, c.says)
			continue
		}
		if err != nil {
			typed(t, name, err, len(data))
		}
	}
	sections, header, count := split(f.data)
	for name, change := range map[string][2]string{
		"quinary":   {`"ternary"`, `"quinary"`},
		"sparse":    {`"ternary"`, `"sparse"`},
		"packed":    {`"cols"`, `"pack":1,"cols"`},
		"many rows": {`[23,61]`, `[2300000000,61]`},
		"few rows":  {`[23,61]`, `[1,61]`},
		"vast rows": {`[23,61],"kind":"ternary","coding":"classes","cols":61`, `[2147483647],"kind":"ternary","coding":"classes","cols":2147483647`},
	} {
		if !strings.Contains(header, change[0]) {
			t.Fatalf("%s: %s", name, header)
		}
		g, err := parse(join(sections, strings.Replace(header, change[0], change[1], 1), count), Options{MaxBytes: 1 << 20})
		if err == nil {
			_, err = g.Tensor("w", nil)
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		typed(t, name, err, len(f.data)+100)
	}
}

// TestClassesDamaged: every cut of a block and of the classes, and every bit of both, is an error or other codes; nothing worse.
func TestClassesDamaged(t *testing.T) {
	f := write(t, nil, func(w *Writer) error { return w.Add("w", nil, classed(23, 61), Classes) })
	i := must(f.Info("w"))(t)
	index := f.data[i.Index.Offset+4 : i.Index.end()]
	for n := range index {
		if _, _, wrong := parseClasses(index[:n:n], 61); wrong == "" {
			t.Errorf("classes cut after %d bytes of %d", n, len(index))
		}
	}
	m, _, _ := parseClasses(index, 61)
	block := f.data[i.Codes.Offset:i.Codes.end()]
	var w workspace
	w.classes.set(m, 61)
	for n := range block {
		if wrong, at := w.classes.decode(&w, block[:n:n], 23, 61); wrong == "" || at > n {
			t.Errorf("a block cut after %d bytes of %d: %q at %d", n, len(block), wrong, at)
		}
	}
	for _, s := range []Section{i.Codes, i.Index} {
		for bit := range 8 * s.Size {
			data := slices.Clone(f.data)
			data[s.Offset+bit/8] ^= 1 << (bit % 8)
			g := must(parse(data, Options{NoChecksums: true}))(t)
			if _, err := g.Tensor("w", nil); err != nil {
				typed(t, fmt.Sprintf("bit %d", bit), err, len(data))
			}
			if _, err := must(parse(data, Options{}))(t).Tensor("w", nil); !errors.Is(err, ErrChecksum) {
				t.Fatalf("bit %d: %v", bit, err)
			}
		}
	}
}

// FuzzClasses codes any codes in rows of any length, and reads any bytes as classes and as a block.
func FuzzClasses(f *testing.F) {
	f.Add([]byte{0, 1, 2, 0, 0, 0, 1, 1, 2}, uint16(3), []byte{}, []byte{})
	f.Add(bytes.Repeat([]byte{0, 1, 2, 1, 1, 1, 1, 2}, 200), uint16(40), []byte{0x11, 0x55, 85, 85, 1, 1, 100, 100, 0, 3}, bytes.Repeat([]byte{1}, 40))
	f.Fuzz(func(t *testing.T, data []byte, width uint16, classes, block []byte) {
		cols := 1 + int(width)%400
		if rows := min(len(data), 1<<11) / cols; rows > 0 {
			q := &quant.Tensor{Rows: rows, Cols: cols, Levels: quant.Ternary, Format: quant.Int8, Scales: []float32{1}}
			for _, b := range data[:rows*cols] {
				q.Codes = append(q.Codes, int8(b%3)-1)
			}
			i := Info{Kind: Quantized, Levels: quant.Ternary, Coding: Classes, Rows: rows, Cols: cols, Pack: 1}
			var out bytes.Buffer
			coder := newCoder(&i, &out)
			if err := coder.add(q); err != nil {
				t.Fatal(err)
			}
			index, err := coder.finish()
			if err != nil {
				t.Fatal(err)
			}
			m, rest, wrong := parseClasses(index[4*i.blocks():], cols)
			if wrong != "" || len(rest) > 0 || i.blocks() != 1 {
				t.Fatalf("%d blocks, %s, %d left", i.blocks(), wrong, len(rest))
			}
			var w workspace
			w.classes.set(m, cols)
			if wrong, at := w.classes.decode(&w, out.Bytes(), rows, cols); wrong != "" {
				t.Fatalf("%s at %d", wrong, at)
			}
			got := make([]int8, cols)
			for k, r := range w.classes.rows {
				for c := range got {
					got[c] = base3Digits[w.symbols[k/groupRows*cols+c]][k%groupRows]
				}
				if !slices.Equal(got, q.Codes[int(r)*cols:][:cols]) {
					t.Fatalf("row %d of %d×%d is another", r, rows, cols)
				}
			}
		}
		m, _, wrong := parseClasses(classes, cols)
		if wrong != "" {
			return
		}
		var w workspace
		w.classes.set(m, cols)
		rows := 1 + len(data)%100
		if wrong, at := w.classes.decode(&w, block, rows, cols); at < 0 || at > len(block) {
			t.Fatalf("%q at %d of %d", wrong, at, len(block))
		}
		for _, s := range w.symbols {
			if !base3Valid[s] && wrong == "" {
				t.Fatalf("symbol %#02x", s)
			}
		}
	})
}
