// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// forge appends values little-endian: a string with its length, integers as they are, bytes without a length.
func forge(b []byte, values ...any) []byte {
	for _, v := range values {
		switch v := v.(type) {
		case string:
			b = appendString(b, v)
		case []byte:
			b = append(b, v...)
		default:
			b, _ = binary.Append(b, binary.LittleEndian, v)
		}
	}
	return b
}

func head(tensors, keys uint64) []byte { return forge([]byte(magic), uint32(3), tensors, keys) }

// padded adds the padding before the data and n bytes of data.
func padded(b []byte, n int) []byte {
	return append(b, make([]byte, int(pad(int64(len(b)), 32))-len(b)+n)...)
}

type u32 = uint32
type u64 = uint64

func TestBadFiles(t *testing.T) {
	const tensorAt = headBytes
	one := func(name string, dims []u64, typ u32, offset u64) []byte {
		return forge(head(1, 0), name, u32(len(dims)), dims, typ, offset)
	}
	two := func(second string, offset u64) []byte {
		return padded(forge(head(2, 0), "a", u32(1), u64(4), u32(0), u64(0), second, u32(1), u64(4), u32(0), offset), 48)
	}
	key := func(values ...any) []byte { return forge(head(0, 1), append(values, make([]byte, 20))...) }
	after := 24 + 8 + 1 // of a one-letter key or name
	for name, c := range map[string]struct {
		file   []byte
		want   error
		offset int
		says   string
	}{
		"nothing":                  {nil, ErrFormat, 0, `does not begin with "GGUF"`},
		"other magic":              {[]byte("GGML" + strings.Repeat("\x00", 40)), ErrFormat, 0, "does not begin"},
		"only magic":               {[]byte(magic), ErrFormat, 4, "ends before its counts"},
		"version 1":                {forge([]byte(magic), u32(1), u64(0), u64(0)), ErrUnsupported, 4, "version 1; versions 2 and 3"},
		"version 4":                {forge([]byte(magic), u32(4), u64(0), u64(0)), ErrUnsupported, 4, "version 4"},
		"big-endian":               {forge([]byte(magic), u32(3<<24), u64(0), u64(0)), ErrUnsupported, 4, "byte order"},
		"version 0":                {forge([]byte(magic), u32(0), u64(0), u64(0)), ErrUnsupported, 4, "byte order"},
		"tensors over the cap":     {head(MaxTensors+1, 0), ErrFormat, 8, "at most 65536"},
		"tensors -1":               {head(math.MaxUint64, 0), ErrFormat, 8, "18446744073709551615 tensors"},
		"keys over the cap":        {head(0, MaxKeys+1), ErrFormat, 16, "at most 65536"},
		"keys -1":                  {head(0, math.MaxUint64), ErrFormat, 16, "keys; at most"},
		"a million tensors":        {head(1_000_000, 0), ErrFormat, 8, "1000000 tensors; at most 65536 are read"},
		"more tensors than bytes":  {head(10_000, 0), ErrFormat, 8, "take at least 330000 bytes, the file ends after 0"},
		"more keys than bytes":     {padded(head(0, 100), 0), ErrFormat, 16, "100 keys take at least 1400 bytes"},
		"both than bytes":          {padded(head(1, 1), 20), ErrFormat, 8, "1 keys and 1 tensors take at least 47 bytes, the file ends after 28"},
		"empty key":                {key("", u32(0), u8(0)), ErrFormat, 24, "key 0: the key is empty"},
		"key of 2^63":              {key(u64(1) << 63), ErrFormat, 24, "has 9223372036854775808 bytes, the file ends after 20"},
		"long key":                 {key(strings.Repeat("k", MaxKeyLength+1), u32(0), u8(0)), ErrFormat, 24, "at most 65535"},
		"key with a zero":          {key("k\x00", u32(0), u8(0)), ErrFormat, 32, "is not text"},
		"key not UTF-8":            {key("k\xff", u32(0), u8(0)), ErrFormat, 32, "is not text"},
		"key twice":                {forge(head(0, 2), "k", u32(0), u8(1), "k", u32(0), u8(1)), ErrFormat, 38, `key "k": the key is there twice, as number 0 and 1`},
		"value type 13":            {key("k", u32(13)), ErrFormat, after, `key "k": value type 13`},
		"value type -1":            {key("k", u32(math.MaxUint32)), ErrFormat, after, "value type 4294967295"},
		"element type 13":          {key("k", u32(9), u32(13), u64(1)), ErrFormat, after + 4, "value type 13"},
		"array of arrays":          {key("k", u32(9), u32(9), u64(1)), ErrUnsupported, after + 4, "an array of arrays"},
		"array of 2^61 u64":        {key("k", u32(9), u32(10), u64(1)<<61), ErrFormat, after + 16, "2305843009213693952 values of type uint64 take at least 8 bytes each, the file ends after 20"},
		"array of 2^64-1":          {key("k", u32(9), u32(0), u64(math.MaxUint64)), ErrFormat, after + 16, "18446744073709551615 values"},
		"array of too many texts":  {key("k", u32(9), u32(8), u64(3)), ErrFormat, after + 16, "3 values of type string"},
		"text behind the end":      {key("k", u32(9), u32(8), u64(2), u64(13)), ErrFormat, after + 37, "takes 8 bytes, the file ends after 7"},
		"string behind the end":    {key("k", u32(8), u64(21)), ErrFormat, after + 4, "a string has 21 bytes, the file ends after 20"},
		"string of 2^64-1":         {key("k", u32(8), u64(math.MaxUint64)), ErrFormat, after + 4, "a string has 18446744073709551615 bytes"},
		"bool of 2":                {key("k", u32(7), u8(2)), ErrFormat, after + 4, "a bool of 2"},
		"bools of 2":               {key("k", u32(9), u32(7), u64(3), []byte{1, 0, 2}), ErrFormat, after + 18, "a bool of 2"},
		"value behind the end":     {forge(head(0, 1), "kkkkk", u32(12), u32(0)), ErrFormat, 41, "the file ends after 4"},
		"alignment as u64":         {key(alignmentKey, u32(10), u64(32)), ErrFormat, 49, "must be uint32"},
		"alignment 0":              {key(alignmentKey, u32(4), u32(0)), ErrFormat, 53, "an alignment of 0"},
		"alignment 4":              {key(alignmentKey, u32(4), u32(4)), ErrFormat, 53, "an alignment of 4; it must be a power of two from 8"},
		"alignment 48":             {key(alignmentKey, u32(4), u32(48)), ErrFormat, 53, "an alignment of 48"},
		"alignment 2^31":           {key(alignmentKey, u32(4), u32(1<<31)), ErrFormat, 53, "to 1048576"},
		"empty name":               {padded(one("", []u64{4}, 0, 0), 16), ErrFormat, tensorAt, "tensor 0: the name is empty"},
		"name of 64 bytes":         {padded(one(strings.Repeat("n", 64), []u64{4}, 0, 0), 16), ErrFormat, tensorAt, "at most 63"},
		"name twice":               {two("a", 32), ErrFormat, 57, `tensor "a": the name is there twice, as number 0 and 1`},
		"0 dimensions":             {padded(one("t", nil, 0, 0), 48), ErrFormat, after, "0 dimensions"},
		"5 dimensions":             {padded(one("t", []u64{1, 1, 1, 1, 1}, 0, 0), 16), ErrFormat, after, "5 dimensions; 1 to 4"},
		"2^32-1 dimensions":        {padded(forge(head(1, 0), "t", u32(math.MaxUint32)), 48), ErrFormat, after, "4294967295 dimensions"},
		"zero-sized":               {padded(one("t", []u64{4, 0, 3}, 0, 0), 16), ErrFormat, after + 12, "dimension 1 is 0: a tensor without values"},
		"negative dimension":       {padded(one("t", []u64{4, math.MaxUint64}, 0, 0), 16), ErrFormat, after + 12, "dimension 1 is -1"},
		"dimensions overflow":      {padded(one("t", []u64{1 << 32, 1 << 32}, 0, 0), 16), ErrFormat, after + 12, "overflow"},
		"wraps to 16":              {padded(one("t", []u64{16, 1<<60 + 1}, 24, 0), 16), ErrFormat, after + 12, "overflow"},
		"bytes overflow":           {padded(one("t", []u64{1<<60 + 1}, 28, 0), 64), ErrFormat, after + 4, "overflow as F64"},
		"exabytes":                 {padded(one("t", []u64{1 << 60}, 0, 0), 64), ErrFormat, tensorAt + 9 + 4 + 8 + 4, "the file ends at"},
		"row of half a block":      {padded(one("t", []u64{128}, 35, 0), 66), ErrFormat, after + 4, "rows of 128 weights; TQ2_0 takes blocks of 256"},
		"withdrawn type":           {padded(one("t", []u64{256}, 36, 0), 66), ErrUnsupported, after + 12, "its type 36, IQ4_NL_4_4, was withdrawn"},
		"type 43":                  {padded(one("t", []u64{256}, 43, 0), 66), ErrUnsupported, after + 12, "its type is 43; types up to 42"},
		"type -1":                  {padded(one("t", []u64{256}, math.MaxUint32, 0), 66), ErrUnsupported, after + 12, "its type is 4294967295"},
		"offset not 0":             {padded(one("t", []u64{4}, 0, 32), 48), ErrFormat, after + 16, "begin at 32 of the data; it must follow the tensor before it, at 0"},
		"offset overlaps":          {two("b", 0), ErrFormat, 82, `tensor "b": its data is said to begin at 0 of the data; it must follow the tensor before it, at 32`},
		"offset not aligned":       {two("b", 16), ErrFormat, 82, "begin at 16"},
		"offset leaves a gap":      {two("b", 64), ErrFormat, 82, "begin at 64"},
		"offset wraps":             {two("b", math.MaxUint64-31), ErrFormat, 82, "begin at 18446744073709551584"},
		"data one byte short":      {padded(one("t", []u64{4}, 0, 0), 15), ErrFormat, after + 16, "its data takes bytes 64 to 80, the file ends at 79"},
		"no data":                  {one("t", []u64{4}, 0, 0), ErrFormat, after + 16, "the file ends at 57"},
		"header without padding":   {padded(one("t", []u64{4}, 0, 0), 0)[:60], ErrFormat, after + 16, "the file ends at 60"},
		"second tensor's data cut": {two("b", 32)[:96+47], ErrFormat, 82, "bytes 128 to 144, the file ends at 143"},
	} {
		_, err := Parse(c.file)
		var e *Error
		if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Offset != int64(c.offset) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %v at byte %d with %q", name, err, c.want, c.offset, c.says)
		}
	}
}

type u8 = uint8

func TestGoodFiles(t *testing.T) {
	v2 := padded(forge(head(1, 0), "t", u32(1), u64(4), u32(0), u64(0)), 16)
	v2[4] = 2
	for name, c := range map[string]struct {
		file    []byte
		tensors int
	}{
		"empty":          {head(0, 0), 0},
		"version 2":      {v2, 1},
		"longest name":   {padded(forge(head(1, 0), strings.Repeat("n", 63), u32(4), []u64{4, 1, 1, 1}, u32(0), u64(0)), 16), 1},
		"alignment 8":    {forge(head(1, 1), alignmentKey, u32(4), u32(8), "t", u32(1), u64(1), u32(24), u64(0), make([]byte, 6), u8(7)), 1},
		"empty array":    {forge(head(0, 1), "k", u32(9), u32(8), u64(0)), 0},
		"other type":     {padded(forge(head(1, 0), "t", u32(1), u64(256), u32(12), u64(0)), 144), 1},
		"bytes after it": {append(v2[:len(v2):len(v2)], 1, 2, 3), 1},
	} {
		f, err := Parse(c.file)
		if err != nil || len(f.Tensors) != c.tensors {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEveryType: the table's sizes against a file of one block each, and what cannot be read says so.
func TestEveryType(t *testing.T) {
	for typ := range Type(len(types)) {
		block, size, ok := typ.Size()
		if !ok {
			continue
		}
		file := padded(forge(head(1, 0), "t", u32(1), u64(block), u32(typ), u64(0)), size)
		f, err := Parse(file)
		if err != nil || f.Tensors[0].Size != int64(size) {
			t.Fatalf("%v: %v", typ, err)
		}
		if _, err := f.Floats(0, nil); typ.Readable() != (err == nil) || err != nil && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v: %v", typ, err)
		} else if err != nil && !strings.Contains(err.Error(), typ.String()) {
			t.Errorf("%v is not named by %v", typ, err)
		}
		if err := f.CheckTernary(0); typ.Ternary() != (err == nil) || err != nil && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v: %v", typ, err)
		}
	}
}

// TestTruncated cuts the golden file after every byte: an error that lies within what is left, or the padding at the end is cut.
func TestTruncated(t *testing.T) {
	golden := goldenBytes(t)
	f, err := Parse(golden)
	if err != nil {
		t.Fatal(err)
	}
	last := f.Tensors[len(f.Tensors)-1]
	for n := range golden {
		_, err := Parse(golden[:n:n])
		if int64(n) >= last.Offset+last.Size {
			if err != nil {
				t.Fatalf("cut after %d bytes: %v", n, err)
			}
			continue
		}
		check(t, golden[:n], err)
		if !errors.Is(err, ErrFormat) {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
	}
}

// TestBitFlips changes one to four bits, and reads whatever is still accepted.
func TestBitFlips(t *testing.T) {
	golden := goldenBytes(t)
	r := rand.New(rand.NewPCG(3, 4))
	accepted := 0
	for range 30_000 {
		b := bytes.Clone(golden)
		for range 1 + r.IntN(4) {
			b[r.IntN(900)] ^= 1 << r.IntN(8) // the header and a little of the data
		}
		f, err := Parse(b)
		if check(t, b, err); err == nil {
			accepted++
			exercise(t, f)
		}
	}
	if accepted == 0 || accepted == 30_000 {
		t.Errorf("%d of 30000 were accepted: this tests nothing", accepted)
	}
}

// check fails unless err is nil or typed, with an offset inside the file.
func check(t *testing.T, file []byte, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var e *Error
	if !errors.As(err, &e) || e.Err != ErrFormat && e.Err != ErrUnsupported || e.Offset < 0 || e.Offset > int64(len(file)) || e.Error() == "" {
		t.Fatalf("untyped, or beyond the file of %d bytes: %v", len(file), err)
	}
}

// exercise reads all that an accepted file has, and writes it again.
func exercise(t *testing.T, f *File) {
	t.Helper()
	for _, kv := range f.Keys {
		if kv.Value() == nil || kv.Len() < 0 {
			t.Fatalf("key %q has no value", kv.Key)
		}
	}
	bounded := true
	for i, info := range f.Tensors {
		if info.Offset < 0 || info.Size < 1 || info.Offset > int64(len(f.data))-info.Size || info.Offset%f.Alignment != 0 {
			t.Fatalf("%+v in a file of %d bytes", info, len(f.data))
		}
		if bounded = bounded && info.Size < 1<<20; !bounded {
			continue
		}
		values, err := f.Floats(i, nil)
		check(t, f.data, err)
		if err == nil && len(values) != info.Rows()*info.Cols() || info.Type.Readable() != (err == nil) {
			t.Fatalf("%+v: %d values, %v", info, len(values), err)
		}
		strict := f.CheckTernary(i)
		check(t, f.data, strict)
		if _, _, err := f.TernaryRows(i, 0, info.Rows(), nil, nil); (err == nil) != (strict == nil) {
			t.Fatalf("%+v: as codes %v, checked %v", info, err, strict)
		}
	}
	if !bounded {
		return
	}
	var b bytes.Buffer
	w, err := writeTo(&b, f.Keys, f.Tensors)
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Tensors {
		if err := rewrite(w, f, i, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Parse(b.Bytes())
	if err != nil || len(again.Keys) != len(f.Keys) || len(again.Tensors) != len(f.Tensors) {
		t.Fatalf("written again: %v", err)
	}
	for i, kv := range again.Keys {
		if kv.Key != f.Keys[i].Key || !bytes.Equal(kv.raw, f.Keys[i].raw) {
			t.Fatalf("key %q differs", kv.Key)
		}
	}
	for i, info := range again.Tensors {
		was := f.Tensors[i]
		if info.Name != was.Name || !slices.Equal(info.Dims, was.Dims) || info.Type != was.Type || !bytes.Equal(b.Bytes()[info.Offset:][:info.Size], f.data[was.Offset:][:was.Size]) {
			t.Fatalf("%+v became %+v", was, info)
		}
	}
}

// writeTo makes a Writer without a file.
func writeTo(out io.Writer, keys []KeyValue, tensors []Info) (*Writer, error) {
	header, laid, alignment, err := plan(keys, tensors)
	if err != nil {
		return nil, err
	}
	w := &Writer{out: out, tensors: laid, alignment: alignment}
	return w, w.put(header)
}

func goldenBytes(t testing.TB) []byte {
	t.Helper()
	golden, err := os.ReadFile("testdata/golden.gguf")
	if err != nil {
		t.Fatal(err)
	}
	return golden
}

// TestManyTensors: as many as are allowed, the last one named like the first. What finds it must not compare each with each.
func TestManyTensors(t *testing.T) {
	n := 60_000
	if testing.Short() {
		n = 20_000
	}
	b := head(u64(n), 0)
	for i := range n {
		k := i % (n - 1)
		name := []byte{byte(33 + k&63), byte(33 + k>>6&63), byte(33 + k>>12&63)}
		b = forge(b, string(name), u32(1), u64(1), u32(24), u64(32*i))
	}
	_, err := Parse(padded(b, 32*n))
	if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "there twice, as number 0 and") {
		t.Error(err)
	}
}

// TestAllocations: refusing a forged count costs a constant.
func TestAllocations(t *testing.T) {
	for _, b := range [][]byte{head(MaxTensors, 0), head(0, MaxKeys), forge(head(0, 1), "k", u32(9), u32(8), u64(1)<<40, make([]byte, 100))} {
		if n := testing.AllocsPerRun(10, func() { Parse(b) }); n > 20 {
			t.Errorf("%v allocations", n)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.gguf")
	if _, err := Open(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a folder was opened")
	}
	for _, content := range []string{"", "GGUF", strings.Repeat("x", 100)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var e *Error
		if _, err := Open(path); !errors.Is(err, ErrFormat) || !errors.As(err, &e) || e.Path != path {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestUse(t *testing.T) {
	f := openFile(t, "testdata/golden.gguf")
	for _, c := range []struct{ i, first, n int }{{-1, 0, 1}, {6, 0, 1}, {0, -1, 1}, {0, 3, 0}, {0, 1, 2}, {0, 0, -1}, {0, 1, math.MaxInt}, {4, math.MaxInt, math.MaxInt}} {
		if _, err := f.Rows(c.i, c.first, c.n, nil); !errors.Is(err, ErrRange) {
			t.Errorf("%+v: %v", c, err)
		}
		if _, _, err := f.TernaryRows(c.i, c.first, c.n, nil, nil); !errors.Is(err, ErrRange) {
			t.Errorf("%+v as codes: %v", c, err)
		}
	}
	if row, err := f.Rows(0, 2, 0, nil); err != nil || len(row) != 0 {
		t.Errorf("no rows: %v, %v", row, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.Floats(0, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if f.Keys[0].Value() != "setun" {
		t.Error("keys end with Close")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(goldenBytes(f))
	f.Add(head(0, 0))
	f.Add(forge(head(1, 1), alignmentKey, u32(4), u32(8), "t", u32(1), u64(1), u32(24), u64(0), make([]byte, 6), u8(7)))
	f.Add(padded(forge(head(2, 0), "a", u32(1), u64(4), u32(0), u64(0), "b", u32(2), u64(256), u64(2), u32(35), u64(32)), 32+132))
	f.Add(padded(forge(head(1, 1), "k", u32(9), u32(8), u64(2), "x", "", "t", u32(1), u64(256), u32(34), u64(0)), 54))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if check(t, data, err); err == nil {
			exercise(t, file)
		}
	})
}
