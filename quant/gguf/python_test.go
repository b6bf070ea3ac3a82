// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// python runs testdata/check.py. It skips the test unless SETUN_GGUF_PYTHON names a Python that has the package gguf.
func python(t *testing.T, args ...string) []byte {
	t.Helper()
	interpreter := os.Getenv("SETUN_GGUF_PYTHON")
	if interpreter == "" {
		t.Skip(`SETUN_GGUF_PYTHON is not set: a Python with the package gguf ("pip install gguf") is needed to compare with`)
	}
	cmd := exec.Command(interpreter, append([]string{filepath.Join("testdata", "check.py")}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("check.py %v: %v\n%s", args, err, errs.Bytes())
	}
	return out.Bytes()
}

// TestReadTheirs: files that gguf-py writes have the values here that they have there.
func TestReadTheirs(t *testing.T) {
	dir := t.TempDir()
	python(t, "write", dir)
	f := openFile(t, filepath.Join(dir, "theirs.gguf"))
	want := readFloats(t, filepath.Join(dir, "theirs.f32"))
	if f.Alignment != 128 {
		t.Errorf("alignment %d", f.Alignment)
	}
	count := 0
	for i, info := range f.Tensors {
		got, err := f.Floats(i, nil)
		if err != nil || !equal(got, want[:len(got)]) {
			t.Fatalf("%s: other values: %v", info.Name, err)
		}
		if info.Type.Ternary() {
			if err := f.CheckTernary(i); err != nil {
				t.Error(err)
			}
			var q quant.Tensor
			if err := f.Ternary(i, &q); err != nil {
				t.Error(err)
			}
		}
		want = want[len(got):]
		count += len(got)
	}
	if len(want) > 0 || len(f.Tensors) != 54 {
		t.Errorf("%d tensors, %d values left", len(f.Tensors), len(want))
	}
	t.Logf("%d tensors, %d values identical", len(f.Tensors), count)
}

// TestTheyRead: what is written here has the keys, the places and the values there that it has here.
func TestTheyRead(t *testing.T) {
	dir := t.TempDir()
	path, out := filepath.Join(dir, "ours.gguf"), filepath.Join(dir, "ours.f32")
	r := rand.New(rand.NewPCG(7, 8))
	var tensors []Info
	for _, typ := range []Type{F32, F16, BF16, Q8_0, TQ1_0, TQ2_0} {
		for i, dims := range [][]int64{{768}, {512, 37}, {256, 5, 3}, {256, 4, 3, 2}} {
			tensors = append(tensors, Info{Name: fmt.Sprintf("%v.%d", typ, i), Dims: dims, Type: typ})
		}
	}
	keys := []KeyValue{NewKey(alignmentKey, uint32(64)), NewKey("a.bytes", []byte{1, 255}), NewKey("a.float", float32(math.Pi)), NewKey("a.texts", []string{"x", "ä", ""})}
	for _, k := range goldenKeys {
		keys = append(keys, keyOf(t, k.key, k.value))
	}
	w, err := Create(path, keys, tensors)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, info := range tensors {
		n := info.Rows() * info.Cols()
		switch {
		case info.Type.Ternary():
			codes, scales := random(r, n)
			scales[0] = 0
			err = w.WriteTernary(codes, scales)
		case info.Type == Q8_0:
			data := make([]byte, n/q8Block*q8Bytes)
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			for i := 1; i < len(data); i += q8Bytes {
				data[i] &= 0xbf // finite scales: what a NaN's bits become in a product is the machine's choice
			}
			err = w.WriteBytes(data)
		default:
			values := make([]float32, n)
			for i := range values {
				values[i] = float32(r.NormFloat64() * math.Exp2(float64(r.IntN(40)-30)))
			}
			err = w.WriteFloats(values)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	lines := python(t, "read", path, out)
	f, theirs := openFile(t, path), readFloats(t, out)
	nextKey, next := 0, 0
	for s := bufio.NewScanner(bytes.NewReader(lines)); s.Scan(); {
		var line struct {
			Key, Tensor, Type string
			Types             []string
			Value             any
			Dims              []int64
			Offset, Size      int64
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatalf("%s: %v", s.Bytes(), err)
		}
		if line.Tensor == "" {
			if kv := f.Keys[nextKey]; line.Key != kv.Key || !reads(line.Value, kv.Value()) {
				t.Errorf("key %s is %v there, %v here", line.Key, line.Value, kv.Value())
			}
			nextKey++
			continue
		}
		info := f.Tensors[next]
		if line.Tensor != info.Name || line.Type != info.Type.String() || !slices.Equal(line.Dims, info.Dims) || line.Offset != info.Offset || line.Size != info.Size {
			t.Errorf("%s there, %+v here", s.Bytes(), info)
		}
		values, err := f.Floats(next, nil)
		if err != nil || !equal(values, theirs[:len(values)]) {
			t.Fatalf("%s: other values: %v", info.Name, err)
		}
		theirs = theirs[len(values):]
		next++
	}
	if nextKey != len(keys) || next != len(tensors) || len(theirs) > 0 {
		t.Errorf("%d keys, %d tensors there; %d values left", nextKey, next, len(theirs))
	}
	t.Logf("%d keys and %d tensors identical", nextKey, next)
}

// keyOf makes a key of a value whose type is known at run time only.
func keyOf(t *testing.T, key string, value any) KeyValue {
	f := openFile(t, "testdata/golden.gguf")
	kv, ok := f.Key(key)
	if !ok {
		t.Fatalf("no key %s = %v", key, value)
	}
	return anew(t, kv)
}

// reads compares what Python printed with a value.
func reads(there, here any) bool {
	if list, ok := there.([]any); ok {
		var texts []string
		switch v := here.(type) {
		case []string:
			texts = v
		default:
			texts = strings.Fields(strings.Trim(fmt.Sprint(v), "[]"))
		}
		return slices.EqualFunc(list, texts, func(a any, b string) bool { return reads(a, b) })
	}
	text := there.(string)
	switch v := here.(type) {
	case string:
		return text == v || strings.EqualFold(text, v)
	case bool:
		return strings.EqualFold(text, fmt.Sprint(v))
	case float32:
		x, err := strconv.ParseFloat(text, 64)
		return err == nil && x == float64(v)
	}
	return text == fmt.Sprint(here)
}
