// SPDX-License-Identifier: Apache-2.0

package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// testdata/golden.safetensors was written by the reference implementation (testdata/check.py golden).

func equal(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
}

func openFile(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestGolden(t *testing.T) {
	f := openFile(t, "testdata/golden.safetensors")
	if !maps.Equal(f.Metadata, map[string]string{"format": "np", "note": "a\tb"}) {
		t.Errorf("metadata %q", f.Metadata)
	}
	zero := float32(math.Copysign(0, -1))
	for name, c := range map[string]struct {
		typ        string
		shape      []int
		rows, cols int
		want       []float32 // nil: not read
	}{
		"f32":              {"F32", []int{2, 3}, 2, 3, []float32{0, 1, -2.5, 3e-5, 65504, zero}},
		"f16":              {"F16", []int{3, 2}, 3, 2, []float32{0, 1, -2.5, 503 * 0x1p-24, 65504, zero}},
		"bf16":             {"BF16", []int{6}, 1, 6, []float32{0, 1, -2.5, math.Float32frombits(0x37fb0000), math.Float32frombits(0x477f0000), zero}},
		"scalar":           {"F32", []int{}, 1, 1, []float32{7}},
		"empty":            {"F32", []int{0, 5}, 0, 5, []float32{}},
		"ints":             {"I64", []int{2}, 1, 2, nil},
		"fünf \"Trits\"\n": {"U8", []int{1}, 1, 1, nil},
	} {
		i, ok := f.Find(name)
		if !ok {
			t.Fatalf("%s is not there", name)
		}
		info := f.Tensors[i]
		if info.Type != c.typ || !slices.Equal(info.Shape, c.shape) || info.Rows() != c.rows || info.Cols() != c.cols || info.Path != "testdata/golden.safetensors" {
			t.Errorf("%+v: %d×%d; want %+v", info, info.Rows(), info.Cols(), c)
		}
		got, err := f.Floats(name, nil)
		if c.want == nil {
			var e *Error
			if !errors.Is(err, ErrUnsupported) || !errors.As(err, &e) || e.Tensor != name || e.Offset != info.Offset || e.Path == "" || !strings.Contains(err.Error(), c.typ) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || !equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
		for r := range c.rows {
			row, err := f.Rows(name, r, 1, got)
			if err != nil || !equal(row, c.want[r*c.cols:][:c.cols]) || &row[0] != &got[0] {
				t.Errorf("%s: row %d is %v, %v", name, r, row, err)
			}
		}
		if rows, err := f.Rows(name, c.rows, 0, nil); err != nil || len(rows) != 0 {
			t.Errorf("%s: no rows are %v, %v", name, rows, err)
		}
		for _, bad := range [][2]int{{-1, 1}, {0, -1}, {0, c.rows + 1}, {c.rows + 1, 0}, {1, math.MaxInt}} {
			if _, err := f.Rows(name, bad[0], bad[1], nil); !errors.Is(err, ErrRange) {
				t.Errorf("%s: rows %v: %v", name, bad, err)
			}
		}
	}
	if _, err := f.Floats("none", nil); !errors.Is(err, ErrRange) {
		t.Errorf("no tensor: %v", err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Error(err)
	}
	if _, err := f.Floats("f32", nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// file makes a file of a header and some bytes of data.
func file(header string, n int) []byte {
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), make([]byte, n)...)
}

func TestHeaders(t *testing.T) {
	const good = `{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"F16","shape":[2],"data_offsets":[24,28]}}`
	change := func(old, new string) []byte {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s", old)
		}
		return file(strings.Replace(good, old, new, 1), 28)
	}
	one := func(dtype, shape string, begin, end int64, size int) []byte {
		return file(fmt.Sprintf(`{"t":{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}}`, dtype, shape, begin, end), size)
	}
	meta := func(text string) []byte { return file(`{"__metadata__":`+text+`}`, 0) }
	many := func(n int, f func(i int) string) string {
		var parts []string
		for i := range n {
			parts = append(parts, f(i))
		}
		return strings.Join(parts, ",")
	}
	for name, c := range map[string]struct {
		file   []byte
		want   error // nil: accepted
		offset int   // -1: not looked at
		says   string
	}{
		"good":                {file(good, 28), nil, 0, ""},
		"white space":         {file("{ \"a\" :\n{\t\"shape\" : [ 2 , 3 ] , \"data_offsets\":[0,24],\"dtype\":\"F32\"} }   ", 24), nil, 0, ""},
		"other order":         {file(`{"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`, 5), nil, 0, ""},
		"no tensors":          {file("{}", 0), nil, 0, ""},
		"no data":             {one("F32", "[9223372036854775807,0,9]", 0, 0, 0), nil, 0, ""},
		"half bytes":          {one("F4", "[2,3]", 0, 3, 3), nil, 0, ""},
		"metadata":            {meta(`{"a":"","b":"\u00e4\ud83d\ude00"}`), nil, 0, ""},
		"U+FFFD":              {meta(`{"a":"\ufffd","b":"` + "\ufffd" + `"}`), nil, 0, ""},
		"nothing":             {nil, ErrFormat, 0, "ends before its header's length"},
		"7 bytes":             {make([]byte, 7), ErrFormat, 7, "ends before its header's length"},
		"no header":           {make([]byte, 8), ErrFormat, 8, "does not begin with '{'"},
		"header of 100000001": {binary.LittleEndian.AppendUint64(nil, MaxHeader+1), ErrFormat, 0, "at most 100000000"},
		"header of 2^64-1":    {binary.LittleEndian.AppendUint64(nil, math.MaxUint64), ErrFormat, 0, "a header of 18446744073709551615 bytes"},
		"cut header":          {file(good, 0)[:50], ErrFormat, 0, "a header of 112 bytes, the file ends after 42"},
		"space before":        {file(" {}", 0), ErrFormat, 8, "does not begin with '{'"},
		"array":               {file("[]", 0), ErrFormat, 8, "does not begin with '{'"},
		"after it":            {file("{} x", 0), ErrFormat, 11, "something follows"},
		"zero after it":       {file("{}\x00", 0), ErrFormat, 10, "something follows"},
		"open":                {file("{", 0), ErrFormat, 9, "a string is missing"},
		"trailing comma":      {change("]}}", "]},}"), ErrFormat, -1, "a string is missing"},
		"no comma":            {change(",\"b\"", "\"b\""), ErrFormat, -1, "',' is missing"},
		"no colon":            {change(`"a":`, `"a"`), ErrFormat, -1, "':' is missing"},
		"single quotes":       {change(`"a"`, `'a'`), ErrFormat, 9, "a string is missing"},
		"open string":         {file(`{"abc`, 0), ErrFormat, 9, "a string does not end"},
		"open escape":         {file(`{"abc\`, 0), ErrFormat, 9, "a string does not end"},
		"bad escape":          {change(`"a"`, `"\x"`), ErrFormat, 9, "not JSON's"},
		"half a surrogate":    {change(`"a"`, `"\ud83d"`), ErrFormat, 9, "not JSON's"},
		"line end in a name":  {change(`"a"`, "\"a\n\""), ErrFormat, 11, "byte 0x0a in a string"},
		"not UTF-8":           {change(`"a"`, "\"\xff\""), ErrFormat, 9, "not UTF-8"},
		"name twice":          {change(`"b"`, `"a"`), ErrFormat, 65, `tensor "a": the name is there twice`},
		"name twice, escaped": {change(`"b"`, `"\u0061"`), ErrFormat, 65, "there twice"},
		"entry is a number":   {file(`{"a":1}`, 0), ErrFormat, 13, `tensor "a": '{' is missing`},
		"field unknown":       {change(`"dtype"`, `"kind"`), ErrFormat, 14, `the field "kind" is not known`},
		"field more":          {change(`"shape"`, `"x":1,"shape"`), ErrFormat, -1, `the field "x" is not known`},
		"field twice":         {change(`"shape":[2,3]`, `"dtype":"F32"`), ErrFormat, 28, `the field "dtype" is there twice`},
		"field missing":       {change(`"dtype":"F32",`, ``), ErrFormat, 13, "a field is missing"},
		"type unknown":        {change(`F32`, `F128`), ErrUnsupported, 22, `tensor "a": its type is "F128"`},
		"type is a number":    {change(`"F32"`, `32`), ErrFormat, 22, "a string is missing"},
		"shape is a number":   {change(`[2,3]`, `6`), ErrFormat, -1, "'[' is missing"},
		"negative size":       {change(`[2,3]`, `[-2,-3]`), ErrFormat, -1, "a size is missing"},
		"fraction":            {change(`[2,3]`, `[2.0,3]`), ErrFormat, -1, "',' is missing"},
		"exponent":            {change(`[2,3]`, `[2e0,3]`), ErrFormat, -1, "',' is missing"},
		"leading zero":        {change(`[2,3]`, `[02,3]`), ErrFormat, -1, "a size is missing"},
		"size of 2^63":        {change(`[2,3]`, `[9223372036854775808]`), ErrFormat, -1, "greater than 9223372036854775807"},
		"size of 1000 digits": {change(`[2,3]`, `[`+strings.Repeat("1", 1000)+`]`), ErrFormat, -1, "greater than 9223372036854775807"},
		"65 dimensions":       {change(`[2,3]`, `[`+strings.Repeat("1,", 64)+`6]`), ErrFormat, 36, "more than 64 dimensions"},
		"product overflows":   {change(`[2,3]`, `[4294967296,4294967296]`), ErrFormat, 36, "overflows"},
		"wraps to the size":   {change(`[2,3]`, `[4611686018427387910]`), ErrFormat, 36, "overflows"},
		"bits overflow":       {one("F64", "[1152921504606846975]", 0, 0, 0), ErrFormat, -1, "takes another number"},
		"shape of other size": {change(`[2,3]`, `[2,4]`), ErrFormat, -1, "data_offsets [0 24] take 24 bytes; F32 of shape [2 4] takes 32"},
		"no whole bytes":      {one("F4", "[3]", 0, 2, 2), ErrFormat, -1, "takes another number"},
		"one offset":          {change(`[0,24]`, `[0]`), ErrFormat, -1, "are no begin and end"},
		"three offsets":       {change(`[0,24]`, `[0,24,24]`), ErrFormat, -1, "more than two"},
		"end before begin":    {change(`[0,24]`, `[24,0]`), ErrFormat, -1, "are no begin and end"},
		"gap before":          {one("U8", "[1]", 1, 2, 2), ErrFormat, 9, `tensor "t": its data begins at 1 of the data; the tensor before it ends at 0`},
		"gap between":         {file(strings.Replace(good, "[24,28]", "[25,29]", 1), 29), ErrFormat, 65, `tensor "b": its data begins at 25`},
		"overlap":             {file(strings.Replace(good, "[24,28]", "[20,24]", 1), 24), ErrFormat, 65, "begins at 20 of the data; the tensor before it ends at 24"},
		"the same data":       {file(strings.Replace(good, `"F16","shape":[2],"data_offsets":[24,28]`, `"F32","shape":[6],"data_offsets":[0,24]`, 1), 24), ErrFormat, 65, "begins at 0"},
		"data cut":            {file(good, 27), ErrFormat, 65, `tensor "b": its data takes bytes 24 to 28 of the data, the file has 27`},
		"data without end":    {one("U8", "[1152921504606846975]", 0, 1152921504606846975, 5), ErrFormat, 9, "takes bytes 0 to 1152921504606846975 of the data, the file has 5"},
		"trailing data":       {file(good, 29), ErrFormat, 8 + len(good) + 28, "1 bytes follow the last tensor"},
		"data without tensor": {file("{}", 1), ErrFormat, 10, "1 bytes follow"},
		"metadata of numbers": {meta(`{"a":1}`), ErrFormat, 29, "a string is missing"},
		"metadata is null":    {meta(`null`), ErrFormat, 24, "'{' is missing"},
		"metadata name twice": {meta(`{"a":"1","a":"2"}`), ErrFormat, 33, `"a" is twice in the metadata`},
		"metadata twice":      {file(`{"__metadata__":{},"__metadata__":{}}`, 0), ErrFormat, 27, "there twice"},
		"much metadata":       {meta(`{` + many(MaxMetadata+1, func(i int) string { return fmt.Sprintf(`"%d":""`, i) }) + `}`), ErrFormat, -1, "more than 65536 entries"},
	} {
		f, err := Parse(c.file)
		if c.want == nil {
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			exercise(t, f, c.file)
			continue
		}
		var e *Error
		if !errors.Is(err, c.want) || !errors.As(err, &e) || c.offset >= 0 && e.Offset != int64(c.offset) || e.Offset > int64(len(c.file)) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %v at byte %d with %q", name, err, c.want, c.offset, c.says)
		}
	}
}

// exercise reads all that an accepted file has, and writes what are floats.
func exercise(t *testing.T, f *File, data []byte) {
	t.Helper()
	next := int64(len(data))
	if len(f.Tensors) > 0 {
		next = f.Tensors[0].Offset
	}
	var floats []Tensor
	for _, info := range f.Tensors {
		if info.Offset != next || info.Size < 0 || info.Size > int64(len(data))-next {
			t.Fatalf("%+v in a file of %d bytes, %d expected", info, len(data), next)
		}
		next += info.Size
		values, err := f.Floats(info.Name, nil)
		check(t, data, err)
		if err != nil {
			continue
		}
		if len(values) != info.Count() || info.Rows() > 0 && info.Rows()*info.Cols() != info.Count() {
			t.Fatalf("%+v has %d values", info, len(values))
		}
		if rows, err := f.Rows(info.Name, 0, info.Rows(), nil); err != nil || !equal(rows, values) {
			t.Fatalf("%+v as rows: %v", info, err)
		}
		if info.Name != "" {
			floats = append(floats, Tensor{info.Name, info.Shape, values})
		}
	}
	if next != int64(len(data)) {
		t.Fatalf("the tensors end at %d of %d", next, len(data))
	}
	header, err := plan(floats, f.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(header))
	for _, w := range floats {
		size += 4 * int64(len(w.Values))
	}
	h, err := parseHeader(header, size)
	if err != nil || len(h.tensors) != len(floats) || len(f.Metadata) > 0 && !maps.Equal(h.metadata, f.Metadata) {
		t.Fatalf("written again: %v", err)
	}
}

// check fails unless err is nil or typed, with an offset inside the file.
func check(t *testing.T, data []byte, err error) {
	t.Helper()
	var e *Error
	if err != nil && (!errors.As(err, &e) || e.Err != ErrFormat && e.Err != ErrUnsupported || e.Offset < 0 || e.Offset > int64(len(data)) || e.Error() == "") {
		t.Fatalf("untyped, or beyond the file of %d bytes: %v", len(data), err)
	}
}

func goldenBytes(t testing.TB) []byte {
	t.Helper()
	golden, err := os.ReadFile("testdata/golden.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	return golden
}

func TestTruncated(t *testing.T) {
	golden := goldenBytes(t)
	for n := range golden {
		_, err := Parse(golden[:n:n])
		if check(t, golden[:n], err); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
	}
	_, err := Parse(append(golden, 0))
	if check(t, append(golden, 0), err); err == nil {
		t.Error("a byte too many was accepted")
	}
}

func TestBitFlips(t *testing.T) {
	golden := goldenBytes(t)
	r := rand.New(rand.NewPCG(3, 4))
	accepted := 0
	for range 30_000 {
		b := bytes.Clone(golden)
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
		f, err := Parse(b)
		if check(t, b, err); err == nil {
			accepted++
			exercise(t, f, b)
		}
	}
	if accepted == 0 || accepted == 30_000 {
		t.Errorf("%d of 30000 were accepted: this tests nothing", accepted)
	}
}

// TestManyTensors: what finds equal names must not compare each with each.
func TestManyTensors(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	b := []byte("{")
	for i := range n {
		b = fmt.Appendf(b, `"%d":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]},`, i%(n-1), i, i+1)
	}
	b[len(b)-1] = '}'
	if _, err := Parse(file(string(b), n)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), `tensor "0": the name is there twice`) {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.safetensors")
	if _, err := Open(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a folder was opened")
	}
	for _, content := range []string{"", "1234567", strings.Repeat("x", 100)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var e *Error
		if _, err := Open(path); !errors.Is(err, ErrFormat) || !errors.As(err, &e) || e.Path != path {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(goldenBytes(f))
	f.Add(file(`{"t":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}`, 4))
	f.Add(file(`{"__metadata__":{"a":"\u00e4\n"},"t":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"u":{"shape":[0,3],"data_offsets":[0,0],"dtype":"BF16"}}`, 4))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if check(t, data, err); err == nil {
			exercise(t, file, data)
		}
	})
}
