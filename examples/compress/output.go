// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/setun-compute/setun/internal/durable"
)

// output is a file in the making. It is written, whole and durable, checked and if need be written again in a hidden folder beside its place, and moved there at the end. What a process leaves there that dies, the next one removes.
type output struct {
	path string
	temp *durable.Folder
}

// newOutput refuses places that cannot be written to before the work begins.
func newOutput(in, path string, force bool) (*output, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("%s is a folder", path)
	case err == nil:
		if source, err := os.Stat(in); err == nil && os.SameFile(source, info) {
			return nil, fmt.Errorf("%s is the input", path)
		}
		if !force {
			return nil, fmt.Errorf("%s is there already; name another file, or replace it with -force", path)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	temp, err := durable.NewFolder(filepath.Dir(path), "compress")
	if err != nil {
		return nil, err
	}
	return &output{path, temp}, nil
}

// checkPicture refuses places for the picture at which it would replace the output, a file of the input or, without force, any other, also by another name.
func checkPicture(path, out string, inputs []string, force bool) error {
	if path == "" {
		return nil
	}
	if folder, err := os.Stat(filepath.Dir(path)); err == nil && filepath.Base(path) == filepath.Base(out) {
		if other, err := os.Stat(filepath.Dir(out)); err == nil && os.SameFile(folder, other) {
			return fmt.Errorf("-histogram %s is the output", path)
		}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder", path)
	}
	if other, err := os.Stat(out); err == nil && os.SameFile(info, other) {
		return fmt.Errorf("-histogram %s is the output", path)
	}
	for _, in := range inputs {
		if other, err := os.Stat(in); err == nil && os.SameFile(info, other) {
			return fmt.Errorf("-histogram %s is the input", path)
		}
	}
	if !force {
		return fmt.Errorf("%s is there already; name another picture, or replace it with -force", path)
	}
	return nil
}

// file is where the result lies until it is published. Its name ends like that of the result.
func (o *output) file() string { return filepath.Join(o.temp.Path, filepath.Base(o.path)) }

// publish moves the file to its place.
func (o *output) publish() error {
	if err := os.Rename(o.file(), o.path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(o.path))
}

// discard removes what was not published.
func (o *output) discard() { o.temp.Remove() }

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
