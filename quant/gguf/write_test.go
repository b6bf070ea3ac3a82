// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/internal/floats"
	"github.com/setun-compute/setun/quant"
)

// random returns codes and scales of n weights.
func random(r *rand.Rand, n int) (codes []int8, scales []float32) {
	codes, scales = make([]int8, n), make([]float32, n/Block)
	for i := range codes {
		codes[i] = int8(r.IntN(3) - 1)
	}
	for i := range scales {
		scales[i] = RoundHalf(float32(math.Exp(r.NormFloat64())))
	}
	return codes, scales
}

func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	path := filepath.Join(t.TempDir(), "new", "x.gguf")
	tensors := []Info{
		{Name: "f32", Dims: []int64{300, 700}, Type: F32}, // more than a chunk
		{Name: "f16", Dims: []int64{3, 5, 2}, Type: F16},
		{Name: "bf16", Dims: []int64{1}, Type: BF16},
		{Name: "tq1", Dims: []int64{512, 3, 2, 2}, Type: TQ1_0},
		{Name: "tq2", Dims: []int64{2560, 700}, Type: TQ2_0},
		{Name: "tail", Dims: []int64{7}, Type: F16},
	}
	keys := []KeyValue{NewKey("general.architecture", "setun"), NewKey(alignmentKey, uint32(64)), NewKey("none", []string{}), NewKey("bytes", []byte{1, 2})}
	w, err := Create(path, keys, tensors)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	values, codes, scales := make([][]float32, len(tensors)), make([][]int8, len(tensors)), make([][]float32, len(tensors))
	for i, info := range tensors {
		n := info.Rows() * info.Cols()
		if info.Type.Ternary() {
			codes[i], scales[i] = random(r, n)
			for first := 0; first < n; {
				rows := min(info.Cols()*(1+r.IntN(300)), n-first)
				if err := w.WriteTernary(codes[i][first:first+rows], scales[i][first/Block:(first+rows)/Block]); err != nil {
					t.Fatal(err)
				}
				first += rows
			}
			continue
		}
		values[i] = make([]float32, n)
		for k := range values[i] {
			values[i][k] = float32(r.NormFloat64())
		}
		if err := w.WriteFloats(values[i][:info.Cols()]); err != nil {
			t.Fatal(err)
		}
		if err := w.WriteFloats(values[i][info.Cols():]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there before Close: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if err := w.WriteFloats(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("written after Close: %v", err)
	}
	f := openFile(t, path)
	if size := int64(len(f.data)); f.Alignment != 64 || size%64 != 0 || f.Tensors[0].Offset%64 != 0 {
		t.Errorf("%d bytes, the data begins at %d", size, f.Tensors[0].Offset)
	}
	for i, info := range f.Tensors {
		got, err := f.Floats(i, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !info.Type.Ternary() {
			for k, x := range values[i] {
				switch info.Type {
				case F16:
					x = RoundHalf(x)
				case BF16:
					x = floats.BFloat(floats.ToBFloat(x))
				}
				if got[k] != x {
					t.Fatalf("%s: value %d is %v, want %v", info.Name, k, got[k], x)
				}
			}
			continue
		}
		var q quant.Tensor
		if err := f.Ternary(i, &q); err != nil || !slices.Equal(q.Codes, codes[i]) || !slices.Equal(q.Scales, scales[i]) {
			t.Fatalf("%s: other codes or scales: %v", info.Name, err)
		}
		if err := q.Check(); err != nil {
			t.Error(err)
		}
		for k, c := range codes[i] {
			if got[k] != float32(c)*scales[i][k/Block] {
				t.Fatalf("%s: value %d is %v", info.Name, k, got[k])
			}
		}
		kept := &q.Codes[0]
		if err := f.Ternary(i, &q); err != nil || &q.Codes[0] != kept {
			t.Errorf("memory is not used again: %v", err)
		}
	}
	left(t, filepath.Dir(path), "x.gguf")
}

// left fails unless these are the files of a folder.
func left(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, want) {
		t.Errorf("files left: %q, want %q", names, want)
	}
}

func TestPlansAreRefused(t *testing.T) {
	good := []Info{{Name: "t", Dims: []int64{256}, Type: TQ2_0}}
	long := strings.Repeat("k", MaxKeyLength+1)
	for name, c := range map[string]struct {
		keys    []KeyValue
		tensors []Info
		want    error
		says    string
	}{
		"row of 100":         {nil, []Info{{Name: "t", Dims: []int64{100, 2}, Type: TQ1_0}}, ErrBlock, `tensor "t": rows of 100 weights; TQ1_0 takes blocks of 256; write the tensor as F16, or write an .stn file`},
		"no dimensions":      {nil, []Info{{Name: "t", Type: F32}}, ErrPlan, "0 dimensions"},
		"5 dimensions":       {nil, []Info{{Name: "t", Dims: make([]int64, 5), Type: F32}}, ErrPlan, "5 dimensions"},
		"empty tensor":       {nil, []Info{{Name: "t", Dims: []int64{4, 0}, Type: F32}}, ErrPlan, "a tensor without values"},
		"negative dimension": {nil, []Info{{Name: "t", Dims: []int64{-4}, Type: F32}}, ErrPlan, "overflow"},
		"overflow":           {nil, []Info{{Name: "t", Dims: []int64{1 << 40, 1 << 40}, Type: F32}}, ErrPlan, "overflow"},
		"too many bytes":     {nil, []Info{{Name: "a", Dims: []int64{1 << 59}, Type: F32}, {Name: "b", Dims: []int64{1 << 59}, Type: F32}}, ErrPlan, `tensor "b": the file would have more than 2^62 bytes`},
		"type 36":            {nil, []Info{{Name: "t", Dims: []int64{256}, Type: 36}}, ErrUnsupported, "withdrawn"},
		"no name":            {nil, []Info{{Dims: []int64{4, 1}, Type: F32}}, ErrPlan, "the name is empty"},
		"long name":          {nil, []Info{{Name: strings.Repeat("n", 64), Dims: []int64{4}, Type: F32}}, ErrPlan, "at most 63"},
		"name twice":         {nil, append(good, good...), ErrPlan, "the name is there twice"},
		"key twice":          {[]KeyValue{NewKey("k", int8(1)), NewKey("k", int8(2))}, good, ErrPlan, "the key is there twice"},
		"key without value":  {[]KeyValue{{Key: "k"}}, good, ErrPlan, "make keys with NewKey"},
		"no key":             {[]KeyValue{NewKey("", int64(1))}, good, ErrPlan, "the key is empty"},
		"long key":           {[]KeyValue{NewKey(long, int8(1))}, good, ErrPlan, "at most 65535"},
		"long string":        {[]KeyValue{NewKey("k", strings.Repeat("s", MaxString+1))}, good, ErrPlan, "at most 67108864"},
		"alignment 24":       {[]KeyValue{NewKey(alignmentKey, uint32(24))}, good, ErrPlan, `key "general.alignment": an alignment of 24`},
		"alignment as int32": {[]KeyValue{NewKey(alignmentKey, int32(32))}, good, ErrPlan, "its type is int32"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "x.gguf")
		_, err := Create(path, c.keys, c.tensors)
		var e *Error
		if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Path != path || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %v with %q", name, err, c.want, c.says)
		}
		left(t, dir)
	}
}

func TestWritesAreRefused(t *testing.T) {
	plan := []Info{{Name: "tq", Dims: []int64{256, 2}, Type: TQ2_0}, {Name: "f16", Dims: []int64{4, 2}, Type: F16}, {Name: "bf16", Dims: []int64{1}, Type: BF16}}
	codes, scales, half := make([]int8, 512), []float32{1, 0.5}, float32(0.5)
	header, laid, _, err := planOf(plan)
	if err != nil {
		t.Fatal(err)
	}
	begin := int64(len(header))
	tq := func(w *Writer) error { return w.WriteTernary(codes, scales) }
	all := func(w *Writer) error {
		return errors.Join(tq(w), w.WriteFloats(make([]float32, 8)), w.WriteFloats(make([]float32, 1)))
	}
	for name, c := range map[string]struct {
		before, f func(*Writer) error
		want      error
		offset    int64
		says      string
	}{
		"floats for codes": {nil, func(w *Writer) error { return w.WriteFloats(make([]float32, 256)) }, ErrPlan, begin, "F32, F16 and BF16 are written from floats"},
		"codes for floats": {tq, func(w *Writer) error { return w.WriteTernary(codes[:256], scales[:1]) }, ErrPlan, laid[1].Offset, "codes for a tensor of type F16"},
		"part of a row":    {nil, func(w *Writer) error { return w.WriteTernary(codes[:255], nil) }, ErrPlan, begin, `tensor "tq": 255 codes; whole rows of 256 are taken, and 2 rows are left`},
		"row too many":     {nil, func(w *Writer) error { return w.WriteTernary(make([]int8, 768), make([]float32, 3)) }, ErrPlan, begin, "2 rows are left"},
		"scales missing":   {nil, func(w *Writer) error { return w.WriteTernary(codes, scales[:1]) }, ErrPlan, begin, "1 scales for 512 codes"},
		"third":            {nil, func(w *Writer) error { return w.WriteTernary(codes, []float32{1, 1. / 3}) }, ErrScale, begin + 66, "scale 1 is 0.33333334, the nearest one is 0.33325195; round scales with RoundHalf before"},
		"tiny":             {nil, func(w *Writer) error { return w.WriteTernary(codes, []float32{1e-9, 1}) }, ErrScale, begin, "the nearest one is 0"},
		"huge":             {nil, func(w *Writer) error { return w.WriteTernary(codes, []float32{65536, 1}) }, ErrScale, begin, "up to 65504"},
		"infinite":         {nil, func(w *Writer) error { return w.WriteTernary(codes, []float32{1, float32(math.Inf(-1))}) }, ErrScale, begin + 66, "scale 1 is -Inf"},
		"NaN":              {nil, func(w *Writer) error { return w.WriteTernary(codes, []float32{1, float32(math.NaN())}) }, ErrScale, begin + 66, "scale 1 is NaN"},
		"code 2":           {nil, func(w *Writer) error { return w.WriteTernary(append(make([]int8, 511), 2), scales) }, ErrPlan, begin + 66, "code 511 is 2"},
		"code -2":          {nil, func(w *Writer) error { return w.WriteTernary(append(make([]int8, 511), -2), scales) }, ErrPlan, begin + 66, "code 511 is -2"},
		"beyond F16":       {tq, func(w *Writer) error { return w.WriteFloats([]float32{1, 2, 65520, 4}) }, ErrPlan, laid[1].Offset + 4, "value 65520 is beyond the range of F16"},
		"beyond BF16": {tq, func(w *Writer) error {
			return errors.Join(w.WriteFloats([]float32{1, float32(math.Inf(1)), half, float32(math.NaN()), 5, 6, 7, 65519}), w.WriteFloats([]float32{math.MaxFloat32}))
		}, ErrPlan, laid[2].Offset, "beyond the range of BF16"},
		"bytes of half a block": {nil, func(w *Writer) error { return w.WriteBytes(make([]byte, 65)) }, ErrPlan, begin, "65 bytes; whole rows of 66"},
		"floats too many":       {all, func(w *Writer) error { return w.WriteFloats(make([]float32, 4)) }, ErrPlan, pad(laid[2].Offset+2, 32), "4 values after the last tensor"},
		"closed early":          {tq, (*Writer).Close, ErrPlan, laid[1].Offset, "0 of its 16 bytes and 1 of 3 tensors were written when the file was closed"},
		"closed in a tensor":    {nil, func(w *Writer) error { return errors.Join(w.WriteTernary(codes[:256], scales[:1]), w.Close()) }, ErrPlan, begin + 66, "66 of its 132 bytes"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "x.gguf")
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := Create(path, nil, plan)
		if err != nil {
			t.Fatal(err)
		}
		if c.before != nil {
			if err := c.before(w); err != nil {
				t.Fatal(err)
			}
		}
		err = c.f(w)
		var e *Error
		if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Path != path || e.Offset != c.offset || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %v at byte %d with %q", name, err, c.want, c.offset, c.says)
		}
		for _, again := range []error{w.WriteBytes(nil), w.Close()} {
			if !errors.Is(again, c.want) {
				t.Errorf("%s: afterwards %v", name, again)
			}
		}
		left(t, dir, "x.gguf")
		if old, err := os.ReadFile(path); string(old) != "old" {
			t.Errorf("%s: the old file is %q, %v", name, old, err)
		}
	}
}

func planOf(tensors []Info) ([]byte, []Info, int64, error) { return plan(nil, tensors) }

func TestAbort(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(filepath.Join(dir, "x.gguf"), nil, []Info{{Name: "t", Dims: []int64{4}, Type: F32}})
	if err != nil {
		t.Fatal(err)
	}
	w.Abort()
	w.Abort()
	left(t, dir)
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "aborted") {
		t.Errorf("closed after Abort: %v", err)
	}
	if err := w.WriteFloats(make([]float32, 4)); err == nil {
		t.Error("written after Abort")
	}
}

// failing takes some bytes, then none.
type failing struct{ n int }

func (f *failing) Write(b []byte) (int, error) {
	if f.n -= len(b); f.n < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

func TestWriteErrors(t *testing.T) {
	tensors := []Info{{Name: "t", Dims: []int64{1 << 20}, Type: F32}}
	values := make([]float32, 1<<20)
	failed := 0
	for n := range 40 {
		w, err := writeTo(&failing{n * chunk / 2}, nil, tensors)
		if err == nil {
			err = w.WriteFloats(values)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil && !errors.Is(err, io.ErrShortWrite) {
			t.Fatal(err)
		}
		if err != nil {
			failed++
		}
	}
	if failed != 33 { // a file of 16 chunks and a header
		t.Errorf("%d writers failed", failed)
	}
}
