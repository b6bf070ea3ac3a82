// SPDX-License-Identifier: Apache-2.0

package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "x.safetensors")
	large := make([]float32, 70_000*3) // more than a chunk
	for i := range large {
		large[i] = float32(i)*0.37 - 1000
	}
	tensors := []Tensor{{"b", []int{70_000, 3}, large}, {"a \"<ä>\"\n", []int{}, []float32{1}}, {"none", []int{3, 0}, nil}, {"c", []int{2, 1, 2}, []float32{1, 2, 3, float32(math.Inf(1))}}}
	metadata := map[string]string{"format": "pt", "a": "<b>\n"}
	if err := Write(path, tensors, metadata); err != nil {
		t.Fatal(err)
	}
	f := openFile(t, path)
	if !maps.Equal(f.Metadata, metadata) || f.Tensors[0].Offset%alignment != 0 {
		t.Errorf("%q, data at %d", f.Metadata, f.Tensors[0].Offset)
	}
	for i, w := range tensors {
		got, err := f.Floats(w.Name, nil)
		if err != nil || !equal(got, w.Values) || f.Tensors[i].Name != w.Name || !slices.Equal(f.Tensors[i].Shape, w.Shape) {
			t.Errorf("%q: %v", w.Name, err)
		}
	}
	if python := os.Getenv("SETUN_GGUF_PYTHON"); python == "" {
		t.Log("SETUN_GGUF_PYTHON is not set: not compared with the reference implementation")
	} else {
		compare(t, python, path, tensors)
	}
	if err := Write(path, nil, nil); err != nil {
		t.Fatal(err)
	}
	if f := openFile(t, path); len(f.Tensors) != 0 || f.Metadata != nil {
		t.Errorf("%+v", f)
	}
	for name, c := range map[string]struct {
		tensors  []Tensor
		metadata map[string]string
		says     string
	}{
		"count":           {[]Tensor{{"a", []int{2}, make([]float32, 3)}}, nil, `tensor "a": 3 values have not the shape [2]`},
		"negative":        {[]Tensor{{"a", []int{-1, -3}, make([]float32, 3)}}, nil, "have not the shape"},
		"negative and 0":  {[]Tensor{{"a", []int{-1, 0}, nil}}, nil, "have not the shape"},
		"overflow":        {[]Tensor{{"a", []int{math.MaxInt, 3}, nil}}, nil, "have not the shape"},
		"no name":         {[]Tensor{{"", []int{0}, nil}}, nil, "is not one of a tensor"},
		"metadata's name": {[]Tensor{{"__metadata__", []int{0}, nil}}, nil, "is not one of a tensor"},
		"no text":         {[]Tensor{{"\xff", []int{0}, nil}}, nil, "is not one of a tensor"},
		"twice":           {[]Tensor{{"a", []int{0}, nil}, {"a", []int{0}, nil}}, nil, "there twice"},
		"dimensions":      {[]Tensor{{"a", make([]int, MaxDims+1), nil}}, nil, "more than 64 dimensions"},
		"no text there":   {nil, map[string]string{"a": "\xff"}, "not UTF-8"},
	} {
		bad := filepath.Join(dir, "bad", "x")
		err := Write(bad, c.tensors, c.metadata)
		var e *Error
		if !errors.Is(err, ErrPlan) || !errors.As(err, &e) || e.Path != bad || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Dir(bad)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was written", name)
		}
	}
}

// compare asks the reference implementation what is in a file.
func compare(t *testing.T, python, path string, tensors []Tensor) {
	t.Helper()
	out, err := exec.Command(python, "testdata/check.py", "read", path).Output()
	if err != nil {
		t.Logf("not compared with the reference implementation, which does not run (pip install safetensors): %v", err)
		return
	}
	found := 0
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); found++ {
		var line struct {
			Name, Type string
			Shape      []int
			Bits       []uint32
		}
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(tensors, func(w Tensor) bool { return w.Name == line.Name })
		same := i >= 0 && line.Type == "F32" && slices.Equal(line.Shape, tensors[i].Shape) &&
			slices.EqualFunc(line.Bits, tensors[i].Values, func(b uint32, v float32) bool { return b == math.Float32bits(v) })
		if !same {
			t.Errorf("%q differs there", line.Name)
		}
	}
	if found != len(tensors) {
		t.Errorf("%d tensors there, %d here", found, len(tensors))
	}
	t.Logf("the reference implementation reads the same %d tensors", found)
}
