// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// testdata/golden.gguf was written by gguf-py (testdata/check.py golden); golden.f32 holds what gguf-py reads from it.

// goldenKeys are the keys of that file.
var goldenKeys = []struct {
	key   string
	value any
}{
	{"general.architecture", "setun"}, {"test.u8", uint8(200)}, {"test.i8", int8(-100)}, {"test.u16", uint16(60000)}, {"test.i16", int16(-30000)},
	{"test.u32", uint32(4000000000)}, {"test.i32", int32(-2000000000)}, {"test.f32", float32(0.1)}, {"test.bool", true}, {"test.string", "fünf Trits ergeben ein Byte"},
	{"test.u64", uint64(18000000000000000000)}, {"test.i64", int64(-9000000000000000000)}, {"test.f64", 0.1}, {"test.strings", []string{"a", "", "ß"}},
	{"test.ints", []int32{1, -2, 3}}, {"test.floats", []float32{0.5, -1.5}}, {"test.bools", []bool{true, false}},
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

// readFloats reads a .f32 file.
func readFloats(t *testing.T, path string) []float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]float32, len(data)/4)
	binary.Decode(data, binary.LittleEndian, values)
	return values
}

func equal(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
}

func TestGolden(t *testing.T) {
	f := openFile(t, "testdata/golden.gguf")
	if f.Version != 3 || f.Alignment != 32 || len(f.Keys) != len(goldenKeys) || len(f.Tensors) != 6 {
		t.Fatalf("version %d, alignment %d, %d keys, %d tensors", f.Version, f.Alignment, len(f.Keys), len(f.Tensors))
	}
	for i, want := range goldenKeys {
		if got := f.Keys[i]; got.Key != want.key || !reflect.DeepEqual(got.Value(), want.value) {
			t.Errorf("key %d: %s = %#v, want %s = %#v", i, got.Key, got.Value(), want.key, want.value)
		}
		if got, ok := f.Key(want.key); !ok || !reflect.DeepEqual(got.Value(), want.value) {
			t.Errorf("key %s: %#v", want.key, got.Value())
		}
	}
	if kv, _ := f.Key("test.strings"); kv.Len() != 3 {
		t.Errorf("%d strings", kv.Len())
	}
	all := readFloats(t, "testdata/golden.f32")
	for i, info := range f.Tensors {
		n := info.Rows() * info.Cols()
		want := all[:n]
		all = all[n:]
		got, err := f.Floats(i, nil)
		if err != nil || !equal(got, want) {
			t.Fatalf("%s: %v, %v; want %v", info.Name, got, err, want)
		}
		for r := range info.Rows() {
			row, err := f.Rows(i, r, 1, got)
			if err != nil || !equal(row, want[r*info.Cols():][:info.Cols()]) || &row[0] != &got[0] {
				t.Fatalf("%s: row %d: %v", info.Name, r, err)
			}
		}
		if info.Type.Ternary() {
			var q quant.Tensor
			if err := f.Ternary(i, &q); err != nil {
				t.Fatal(err)
			}
			if got, err := q.Dequantize(nil); err != nil || q.Group != Block || !slices.EqualFunc(got, want, func(a, b float32) bool { return a == b }) {
				t.Fatalf("%s as codes: %v", info.Name, err)
			}
			if err := f.CheckTernary(i); err != nil {
				t.Error(err)
			}
		}
	}
	if i, ok := f.Find("bf16"); !ok || i != 2 {
		t.Errorf("bf16 is %d, %v", i, ok)
	}
}

// TestWriteGolden: our bytes are gguf-py's, when keys and data are copied, and when they are made anew.
func TestWriteGolden(t *testing.T) {
	golden, err := os.ReadFile("testdata/golden.gguf")
	if err != nil {
		t.Fatal(err)
	}
	f := openFile(t, "testdata/golden.gguf")
	var made []KeyValue
	for _, kv := range f.Keys {
		made = append(made, anew(t, kv))
	}
	for name, keys := range map[string][]KeyValue{"copied": f.Keys, "made": made} {
		path := filepath.Join(t.TempDir(), "x.gguf")
		w, err := Create(path, keys, f.Tensors)
		if err != nil {
			t.Fatal(err)
		}
		for i, info := range f.Tensors {
			if err := rewrite(w, f, i, name == "copied" || info.Type == Q8_0); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, golden) {
			t.Errorf("%s: the file differs from gguf-py's: %v", name, err)
		}
	}
}

// rewrite copies a tensor, as bytes or by its values.
func rewrite(w *Writer, f *File, i int, raw bool) error {
	if raw {
		data, err := f.Bytes(i)
		if err != nil {
			return err
		}
		return w.WriteBytes(data)
	}
	for r := range f.Tensors[i].Rows() {
		if f.Tensors[i].Type.Ternary() {
			codes, scales, err := f.TernaryRows(i, r, 1, nil, nil)
			if err != nil {
				return err
			}
			if err := w.WriteTernary(codes, scales); err != nil {
				return err
			}
			continue
		}
		row, err := f.Rows(i, r, 1, nil)
		if err != nil {
			return err
		}
		if err := w.WriteFloats(row); err != nil {
			return err
		}
	}
	return nil
}

// anew makes a key again from its value.
func anew(t *testing.T, kv KeyValue) KeyValue {
	switch v := kv.Value().(type) {
	case uint8:
		return NewKey(kv.Key, v)
	case int8:
		return NewKey(kv.Key, v)
	case uint16:
		return NewKey(kv.Key, v)
	case int16:
		return NewKey(kv.Key, v)
	case uint32:
		return NewKey(kv.Key, v)
	case int32:
		return NewKey(kv.Key, v)
	case uint64:
		return NewKey(kv.Key, v)
	case int64:
		return NewKey(kv.Key, v)
	case float32:
		return NewKey(kv.Key, v)
	case float64:
		return NewKey(kv.Key, v)
	case bool:
		return NewKey(kv.Key, v)
	case string:
		return NewKey(kv.Key, v)
	case []string:
		return NewKey(kv.Key, v)
	case []int32:
		return NewKey(kv.Key, v)
	case []float32:
		return NewKey(kv.Key, v)
	case []bool:
		return NewKey(kv.Key, v)
	}
	t.Fatalf("%s has the type %T", kv.Key, kv.Value())
	return KeyValue{}
}
