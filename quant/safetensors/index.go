// SPDX-License-Identifier: Apache-2.0

package safetensors

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// OpenIndex opens a checkpoint of several files by its index, model.safetensors.index.json: a JSON object whose weight_map gives the file of each tensor. The files lie in
// the index's folder; a name that leads elsewhere is refused (a symbolic link in the folder is followed: caches of models are made of them). Tensors that the index names
// must be in the file that it gives; what it does not name is left out, and its metadata, whose total_size is often wrong, is not looked at.
//
// Errors: ErrIndex for the index, those of Open for the files.
func OpenIndex(path string) (*File, error) {
	text, err := readIndex(path)
	if err != nil {
		return nil, err
	}
	weights, err := parseIndex(text)
	if err != nil {
		return nil, at(err, path)
	}
	f := &File{path: path, names: make(map[string]int, len(weights))}
	if err := f.openAll(filepath.Dir(path), weights); err != nil {
		f.Close()
		return nil, at(err, path)
	}
	return f, nil
}

func readIndex(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, MaxHeader+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxHeader {
		return nil, at(fail(ErrIndex, MaxHeader, "more than %d bytes", MaxHeader), path)
	}
	return text, nil
}

// place is where an index puts a tensor.
type place struct {
	file string
	at   int64 // where the index says so
}

// parseIndex reads the map from tensors to files. Everything else that the object holds is skipped.
func parseIndex(text []byte) (map[string]place, error) {
	p := newParser(text, 0, ErrIndex)
	var weights map[string]place
	files := map[string]struct{}{}
	names := map[string]struct{}{}
	err := p.Object(func(at int, name string) error {
		if _, twice := names[name]; twice {
			return p.fail(at, "the name %q is there twice", name)
		}
		if len(names) == MaxMetadata {
			return p.fail(at, "more than %d names", MaxMetadata)
		}
		names[name] = struct{}{}
		if name != "weight_map" {
			return p.Skip()
		}
		weights = map[string]place{}
		return p.Object(func(at int, tensor string) error {
			if _, twice := weights[tensor]; twice {
				return about(p.fail(at, "the tensor is there twice"), tensor)
			}
			if len(weights) == MaxTensors {
				return p.fail(at, "more than %d tensors", MaxTensors)
			}
			p.Next()
			fileAt := p.At
			file, err := p.String()
			if err != nil {
				return about(err, tensor)
			}
			if !inFolder(file) {
				return about(p.fail(fileAt, "its file is %q, which is not the name of a file beside the index", file), tensor)
			}
			if files[file] = struct{}{}; len(files) > MaxFiles {
				return p.fail(fileAt, "more than %d files", MaxFiles)
			}
			weights[tensor] = place{file, int64(fileAt)}
			return nil
		})
	})
	if err == nil {
		err = p.End()
	}
	if err == nil && weights == nil {
		err = p.fail(len(text), "it has no weight_map")
	}
	if err != nil {
		return nil, err
	}
	return weights, nil
}

// inFolder reports whether name is that of a file in the folder itself, on every system: no separators, no drive, no device name.
func inFolder(name string) bool {
	return name != "." && !strings.ContainsAny(name, "/\\:\x00") && filepath.IsLocal(name)
}

// openAll opens the files that weights name, in the order of their names, and collects the tensors.
func (f *File) openAll(folder string, weights map[string]place) error {
	files := map[string][]string{} // the tensors that each must have
	for tensor, w := range weights {
		files[w.file] = append(files[w.file], tensor)
	}
	for i, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(folder, name)
		m, h, err := openOne(path)
		if err != nil {
			return err
		}
		f.files = append(f.files, m)
		if i == 0 {
			f.Metadata = h.metadata
		}
		before := len(f.Tensors)
		for _, t := range h.tensors {
			if weights[t.Name].file != name {
				continue
			}
			t.Path, t.file = path, i
			f.names[t.Name] = len(f.Tensors)
			f.Tensors = append(f.Tensors, t)
		}
		if len(f.Tensors)-before == len(files[name]) {
			continue
		}
		missing := slices.DeleteFunc(files[name], func(tensor string) bool { _, ok := f.names[tensor]; return ok })
		tensor := slices.Min(missing)
		return fail(ErrIndex, weights[tensor].at, "%s does not have it", fmt.Sprintf("its file %q", name)).about(tensor)
	}
	return nil
}
