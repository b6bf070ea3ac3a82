// SPDX-License-Identifier: Apache-2.0

package safetensors

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestIndex(t *testing.T) {
	dir := t.TempDir()
	save := func(name string, tensors ...Tensor) {
		if err := Write(filepath.Join(dir, name), tensors, map[string]string{"file": name}); err != nil {
			t.Fatal(err)
		}
	}
	save("2.safetensors", Tensor{"c", []int{2}, []float32{5, 6}}, Tensor{"a", []int{1}, []float32{7}})
	save("1.safetensors", Tensor{"b", []int{2, 2}, []float32{1, 2, 3, 4}}, Tensor{"extra", []int{}, []float32{9}}, Tensor{"c", []int{}, []float32{8}})
	path := filepath.Join(dir, "model.safetensors.index.json")
	index := func(text string) (*File, error) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return OpenIndex(path)
	}
	const weights = `{"a":"2.safetensors","b":"1.safetensors","c":"2.safetensors"}`
	f, err := index(`{"metadata":{"total_size":1.6e1,"x":[null,true,{"y":"\n"},-0.5]},"weight_map":` + weights + `}`)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, info := range f.Tensors {
		names = append(names, info.Name+" "+filepath.Base(info.Path))
	}
	if got := strings.Join(names, ", "); got != "b 1.safetensors, c 2.safetensors, a 2.safetensors" || f.Metadata["file"] != "1.safetensors" {
		t.Errorf("%s; %q", got, f.Metadata)
	}
	for name, want := range map[string][]float32{"a": {7}, "b": {1, 2, 3, 4}, "c": {5, 6}} {
		if got, err := f.Floats(name, nil); err != nil || !equal(got, want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := f.Rows("b", 1, 1, nil); err != nil || !equal(got, []float32{3, 4}) {
		t.Errorf("row 1 of b: %v, %v", got, err)
	}
	if _, err := f.Floats("extra", nil); !errors.Is(err, ErrRange) {
		t.Errorf("what the index does not name: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.Floats("b", nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if f, err := index(`{"weight_map":{}}`); err != nil || len(f.Tensors) != 0 {
		t.Errorf("no tensors: %v", err)
	}

	deep := strings.Repeat("[", 20) + strings.Repeat("]", 20)
	var many []string
	for i := range MaxFiles + 1 {
		many = append(many, fmt.Sprintf(`"%d":"%d"`, i, i))
	}
	for name, c := range map[string]struct {
		text   string
		offset int64
		says   string
	}{
		"nothing":          {"", 0, "'{' is missing"},
		"no weight_map":    {`{"metadata":{}}`, 15, "it has no weight_map"},
		"twice":            {`{"weight_map":{},"weight_map":{}}`, 17, `the name "weight_map" is there twice`},
		"tensor twice":     {`{"weight_map":{"a":"x","a":"y"}}`, 23, `tensor "a": the tensor is there twice`},
		"number":           {`{"weight_map":{"a":1}}`, 19, `tensor "a": a string is missing`},
		"after it":         {`{"weight_map":{}}{`, 17, "something follows"},
		"deep":             {`{"metadata":` + deep + `,"weight_map":{}}`, 28, "nested deeper"},
		"word":             {`{"metadata":nul,"weight_map":{}}`, 12, "a value is missing"},
		"missing there":    {`{"weight_map":{"a":"2.safetensors","z":"2.safetensors","y":"2.safetensors"}}`, 59, `tensor "y": its file "2.safetensors" does not have it`},
		"in another file":  {`{"weight_map":{"a":"1.safetensors"}}`, 19, `tensor "a": its file "1.safetensors" does not have it`},
		"too many files":   {`{"weight_map":{` + strings.Join(many, ",") + `}}`, -1, "more than 4096 files"},
		"parent":           {`{"weight_map":{"a":"../x"}}`, 19, `tensor "a": its file is "../x", which is not the name of a file beside the index`},
		"absolute":         {`{"weight_map":{"a":"/etc/passwd"}}`, 19, "beside the index"},
		"subfolder":        {`{"weight_map":{"a":"x/y"}}`, 19, "beside the index"},
		"backslash":        {`{"weight_map":{"a":"..\\x"}}`, 19, "beside the index"},
		"drive":            {`{"weight_map":{"a":"C:x"}}`, 19, "beside the index"},
		"dots":             {`{"weight_map":{"a":".."}}`, 19, "beside the index"},
		"dot":              {`{"weight_map":{"a":"."}}`, 19, "beside the index"},
		"empty":            {`{"weight_map":{"a":""}}`, 19, "beside the index"},
		"zero in the name": {`{"weight_map":{"a":"x\u0000"}}`, 19, "beside the index"},
	} {
		_, err := index(c.text)
		var e *Error
		if !errors.Is(err, ErrIndex) || !errors.As(err, &e) || e.Path != path || c.offset >= 0 && e.Offset != c.offset || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want byte %d with %q", name, err, c.offset, c.says)
		}
	}
	if _, err := index(`{"weight_map":{"a":"none.safetensors"}}`); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	bad := filepath.Join(dir, "bad.safetensors")
	if err := os.WriteFile(bad, []byte("12345678"), 0o600); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := index(`{"weight_map":{"a":"2.safetensors","b":"bad.safetensors"}}`); !errors.Is(err, ErrFormat) || !errors.As(err, &e) || e.Path != bad {
		t.Errorf("a bad file: %v", err)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":1.6e1,"x":[null,true,{"y":"\n"},-0.5]},"weight_map":{"a":"2.safetensors","b":"1.safetensors"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		weights, err := parseIndex(text)
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Err != ErrIndex || e.Offset < 0 || e.Offset > int64(len(text))) {
			t.Fatalf("untyped, or beyond the file of %d bytes: %v", len(text), err)
		}
		for _, w := range weights {
			if filepath.Dir(filepath.Join("folder", w.file)) != "folder" {
				t.Fatalf("%q leaves the folder", w.file)
			}
		}
	})
}
