// SPDX-License-Identifier: Apache-2.0

package npy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/internal/floats"
)

// The files in testdata were written by numpy.save, and by numpy.lib.format.write_array for versions 2 and 3.

func TestGolden(t *testing.T) {
	want := []float32{0, 1, -2.5, 3e-5, 65504, float32(math.Copysign(0, -1))}
	halves := slices.Clone(want)
	halves[3] = 503 * 0x1p-24 // the float16 nearest to 3e-5, subnormal
	for _, c := range []struct {
		file   string
		want   []float32
		shape  []int
		mapped bool
	}{
		{"f4", want, []int{2, 3}, true},
		{"v2", want, []int{2, 3}, true},
		{"v3", want, []int{2, 3}, true},
		{"1d", want[:3], []int{3}, true},
		{"empty", nil, []int{0, 3}, true},
		{"f8", want, []int{2, 3}, false},
		{"f2", halves, []int{2, 3}, false},
	} {
		f, err := OpenFloats(context.Background(), filepath.Join("testdata", c.file+".npy"))
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		same := slices.EqualFunc(f.Values, c.want, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
		if !same || !slices.Equal(f.Shape, c.shape) {
			t.Errorf("%s: %v of shape %v; want %v of shape %v", c.file, f.Values, f.Shape, c.want, c.shape)
		}
		if f.Mapped && !c.mapped {
			t.Errorf("%s: converted values cannot be mapped", c.file)
		}
		if err := f.Close(); err != nil {
			t.Errorf("%s: %v", c.file, err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("%s: closed again: %v", c.file, err)
		}
	}
}

func TestRefusedGolden(t *testing.T) {
	for file, want := range map[string]string{
		"fortran": "byte 44: the values are in Fortran order; save numpy.ascontiguousarray(a)",
		"big":     `byte 20: descr is ">f4": big-endian values`,
		"i8":      `byte 20: descr is "<i8"; float32, float64 and float16 are read`,
		"records": "byte 20: the values are records",
	} {
		path := filepath.Join("testdata", file+".npy")
		_, err := OpenFloats(context.Background(), path)
		if !errors.Is(err, ErrUnsupported) || !strings.HasPrefix(err.Error(), path+": "+want) {
			t.Errorf("%v; want %s: %s", err, path, want)
		}
	}
}

// file makes a version 1 file of a header and some bytes of values.
func file(header string, values int) []byte {
	return append([]byte("\x93NUMPY\x01\x00"+string([]byte{byte(len(header)), byte(len(header) >> 8)})+header), make([]byte, values)...)
}

func TestHeaders(t *testing.T) {
	const good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
	change := func(old, new string) []byte { return file(strings.Replace(good, old, new, 1)+"\n", 24) }
	for name, c := range map[string]struct {
		file []byte
		want error  // nil: accepted
		says string // in the error
	}{
		"good":                 {file(good, 24), nil, ""},
		"other order":          {file(`{"shape":(6,),"descr":"|u1","fortran_order":True}`, 6), nil, ""},
		"scalar":               {file("{'descr': '<f8', 'fortran_order': False, 'shape': ()}", 8), nil, ""},
		"no values":            {file("{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 0, 9)}", 0), nil, ""},
		"nothing":              {nil, ErrFormat, "byte 0: it does not begin"},
		"text":                 {[]byte("label,x,y\n1,2,3\n"), ErrFormat, "byte 0"},
		"only magic":           {[]byte(magic), ErrFormat, "byte 6: the file ends"},
		"version 4":            {[]byte(magic + "\x04\x00\x00\x00\x00\x00"), ErrUnsupported, "version 4.0"},
		"version 1.1":          {[]byte(magic + "\x01\x01\x00\x00\x00\x00"), ErrUnsupported, "version 1.1"},
		"long header":          {[]byte(magic + "\x02\x00\x01\x00\x01\x00"), ErrFormat, "byte 8: a header of 65537 bytes"},
		"huge header":          {[]byte(magic + "\x03\x00\xff\xff\xff\xff"), ErrFormat, "byte 8: a header of 4294967295 bytes"},
		"cut header":           {file(good, 24)[:50], ErrFormat, "ends 40 bytes after"},
		"cut values":           {file(good, 23), ErrFormat, "byte 69: shape (2, 3) of 4 bytes each takes 24 bytes, the file ends after 23"},
		"trailing":             {file(good, 25), ErrFormat, "byte 93: 1 bytes follow"},
		"after dict":           {change(" }", " } x"), ErrFormat, "byte 70: something follows"},
		"NUL after dict":       {change(" }", " }\x00"), ErrFormat, "something follows"},
		"no dict":              {change("{", "["), ErrFormat, "byte 10: '{' is missing"},
		"open dict":            {change(" }", " "), ErrFormat, "quoted string is missing"},
		"no comma":             {change("', '", "' '"), ErrFormat, "',' is missing"},
		"key twice":            {change("'fortran_order': False", "'descr': '<f4'"), ErrFormat, `"descr" is there twice`},
		"key missing":          {change("'fortran_order': False, ", ""), ErrFormat, "has no fortran_order"},
		"key unknown":          {change("'shape'", "'order': 1, 'shape'"), ErrFormat, `key "order" is not known`},
		"escape":               {change("descr", `de\x73cr`), ErrFormat, "in a string of the header"},
		"open string":          {change("'descr'", "'"+strings.Repeat("d", 100)), ErrFormat, "does not end"},
		"bool":                 {change("False", "0"), ErrFormat, "neither True nor False"},
		"call":                 {change("(2, 3)", "exit(2)"), ErrFormat, "'(' is missing"},
		"number for a tuple":   {change("(2, 3)", "(6)"), ErrFormat, "not a tuple"},
		"negative":             {change("2", "-2"), ErrFormat, "size in the shape is missing"},
		"expression":           {change("2", "1+1"), ErrFormat, "not a tuple"},
		"leading zero":         {change("2", "02"), ErrFormat, "size in the shape"},
		"size over 63 bits":    {change("2", "9223372036854775808"), ErrFormat, "too large"},
		"size of 1000 digits":  {change("2", strings.Repeat("1", 1000)), ErrFormat, "too large"},
		"product overflows":    {change("(2, 3)", "(4294967296, 4294967296)"), ErrFormat, "overflows"},
		"bytes overflow":       {change("(2, 3)", "(4611686018427387904,)"), ErrFormat, "overflows"},
		"wraps to the size":    {change("(2, 3)", "(4611686018427387910,)"), ErrFormat, "overflows"},
		"65 dimensions":        {change("(2, 3)", "("+strings.Repeat("1,", 65)+")"), ErrFormat, "more than 64 dimensions"},
		"object":               {change("<f4", "|O"), ErrFormat, "not a type"},
		"text values":          {change("<f4", "<U4"), ErrUnsupported, "neither boolean nor a number"},
		"no byte order":        {change("<f4", "f4"), ErrFormat, "not a type"},
		"size 0":               {change("<f4", "<f0"), ErrFormat, "not a type"},
		"signed size":          {change("<f4", "<f+4"), ErrFormat, "not a type"},
		"records":              {change("'<f4'", "[('x', '<f4')]"), ErrUnsupported, "records"},
		"byte beyond ASCII":    {change("<f4", "<f4\xff"), ErrFormat, "byte 0xff in a string"},
		"shape is never there": {change("'shape': (2, 3), ", ""), ErrFormat, "has no shape"},
	} {
		h, err := ParseHeader(c.file, int64(len(c.file)))
		if c.want == nil {
			if err != nil || h.Count*h.Size+h.Offset != len(c.file) {
				t.Errorf("%s: %+v, %v", name, h, err)
			}
		} else if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %v with %q", name, err, c.want, c.says)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	values := make([]float32, 70_000*3) // more than one chunk of the writer
	for i := range values {
		values[i] = float32(i)*0.37 - 1000
	}
	path := filepath.Join(t.TempDir(), "x.npy")
	for _, shape := range [][]int{{70_000, 3}, {210_000}, {7, 0}, {2, 3, 5}, {}} {
		n, _ := product(shape)
		if err := WriteFile(path, values[:n], shape...); err != nil {
			t.Fatal(err)
		}
		f, err := OpenFloats(context.Background(), path)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(f.Values, values[:n]) || !slices.Equal(f.Shape, shape) || f.Offset%alignment != 0 {
			t.Errorf("shape %v came back as %v, %d values, at byte %d", shape, f.Shape, len(f.Values), f.Offset)
		}
		f.Close()
	}
	for _, shape := range [][]int{{4}, {2, 2}, {-1, -3}, {0}, {math.MaxInt, 3}} {
		if err := WriteFile(path, values[:3], shape...); !errors.Is(err, ErrFormat) {
			t.Errorf("3 values as %v: %v", shape, err)
		}
	}
}

// The writer's bytes are NumPy's.
func TestWriteGolden(t *testing.T) {
	want := []float32{0, 1, -2.5, 3e-5, 65504, float32(math.Copysign(0, -1))}
	for file, write := range map[string]func(*bytes.Buffer) error{
		"f4":    func(b *bytes.Buffer) error { return Write(b, want, 2, 3) },
		"1d":    func(b *bytes.Buffer) error { return Write(b, want[:3], 3) },
		"empty": func(b *bytes.Buffer) error { return Write(b, want[:0], 0, 3) },
		"i4":    func(b *bytes.Buffer) error { return Write(b, []int32{1, -2, 1 << 30}, 3) },
	} {
		golden, err := os.ReadFile(filepath.Join("testdata", file+".npy"))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := write(&b); err != nil || !bytes.Equal(b.Bytes(), golden) {
			t.Errorf("%s: %q, %v; want %q", file, b.Bytes(), err, golden)
		}
	}
}

func TestUnalignedValuesAreCopied(t *testing.T) {
	data := file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 8)
	if len(data)%4 == 0 {
		t.Fatal("the values are aligned")
	}
	copy(data[len(data)-8:], "\x00\x00\x80\x3f\x00\x00\x20\xc0")
	path := filepath.Join(t.TempDir(), "x.npy")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFloats(context.Background(), path)
	if err != nil || f.Mapped || !slices.Equal(f.Values, []float32{1, -2.5}) {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.npy")
	if _, err := OpenFloats(context.Background(), path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := OpenFloats(context.Background(), dir); err == nil {
		t.Error("a folder was opened")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFloats(context.Background(), path); !errors.Is(err, ErrFormat) {
		t.Errorf("an empty file: %v", err)
	}
	if err := WriteFile(path, []float64{1, math.Inf(1), 1e39}, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFloats(context.Background(), path); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "byte 144: value 2 = 1e+39") {
		t.Errorf("1e39: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := OpenFloats(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}

func FuzzHeader(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		h, err := ParseHeader(data, size)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Err != ErrFormat && e.Err != ErrUnsupported || e.Offset < 0 || e.Offset > max(size, int64(len(data))) {
				t.Fatalf("untyped, or beyond the file: %+v", err)
			}
			return
		}
		if n, ok := product(h.Shape); !ok || n != h.Count || h.Offset > len(data) || int64(h.Count)*int64(h.Size)+int64(h.Offset) != size {
			t.Fatalf("%+v does not fit a file of %d bytes", h, size)
		}
		if h.Descr == "<f4" && !h.Fortran && h.Count < 1000 {
			var b bytes.Buffer
			if err := Write(&b, make([]float32, h.Count), h.Shape...); err != nil {
				t.Fatal(err)
			}
			again, err := ParseHeader(b.Bytes(), int64(b.Len()))
			if err != nil || !slices.Equal(again.Shape, h.Shape) {
				t.Fatalf("%v; %v after a round trip: %v", h.Shape, again, err)
			}
		}
	})
}

// FuzzFloats opens files. What is read has as many values as the shape says, and is what the bytes say.
func FuzzFloats(f *testing.F) {
	for _, descr := range []string{"<f2", "<f4", "<f8", ">f4", "|i1", "<i8"} {
		for _, shape := range []string{"(3, 2)", "(6,)", "()", "(0, 4)"} {
			text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape)
			data := append([]byte("\x93NUMPY\x01\x00"), byte(len(text)+1), 0)
			f.Add(slices.Concat(data, []byte(text+"\n"), bytes.Repeat([]byte{0, 0x3c}, 24)), uint8(48))
		}
	}
	path := filepath.Join(f.TempDir(), "x.npy")
	f.Fuzz(func(t *testing.T, data []byte, cut uint8) {
		for n := range min(int(cut), len(data)) + 1 { // of some length the shape will be right
			if h, err := ParseHeader(data[:len(data)-n], int64(len(data)-n)); err == nil && h != nil {
				data = data[:len(data)-n]
				break
			}
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := OpenFloats(context.Background(), path)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Offset < 0 || e.Offset > int64(len(data)) {
				t.Fatalf("untyped, or beyond the file: %v", err)
			}
			return
		}
		defer x.Close()
		raw := data[x.Offset:]
		for i, v := range x.Values {
			want := float64(0)
			switch b := raw[i*x.Size:]; x.Size {
			case 2:
				want = float64(floats.Half(binary.LittleEndian.Uint16(b)))
			case 4:
				want = float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
			case 8:
				want = float64(float32(math.Float64frombits(binary.LittleEndian.Uint64(b))))
			}
			if float64(v) != want && v == v {
				t.Fatalf("value %d is %v, not %v", i, v, want)
			}
		}
		if n, ok := product(x.Shape); !ok || n != len(x.Values) || x.Size*n != len(raw) {
			t.Fatalf("%d values of the shape %v", len(x.Values), x.Shape)
		}
	})
}
