// SPDX-License-Identifier: Apache-2.0

package crashtest

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/setun-compute/setun/internal/durable"
)

// Floats is a format that can hold float32 values alone: how they are written at a path, and read from the bytes of a file.
type Floats struct {
	Path  string
	Write func(files durable.Files, x []float32) error
	Read  func(data []byte) ([]float32, error)
}

// Test runs a test on saves: of the first file, of a longer one, whose values are more than are encoded at once, and of a shorter one. A file has n times the value n, so that parts of two show.
func (f Floats) Test(t *testing.T, run func(s *Save, t *testing.T)) {
	for name, s := range map[string]*Save{
		"first":   {New: f.save(10)},
		"longer":  {Old: f.save(10), New: f.save(100_000)},
		"shorter": {Old: f.save(1000), New: f.save(10)},
	} {
		s.Path, s.Load = f.Path, f.load
		t.Run(name, func(t *testing.T) { run(s, t) })
	}
}

func (f Floats) save(n int) func(durable.Files) error {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(n)
	}
	return func(files durable.Files) error { return f.Write(files, x) }
}

// load says how many values a file has.
func (f Floats) load(files durable.Files) (string, error) {
	data, err := files.ReadFile(f.Path, 1<<21)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	x, err := f.Read(data)
	if err != nil {
		return "", err
	}
	for _, v := range x {
		if v != float32(len(x)) {
			return "", fmt.Errorf("a value is %v, of %d", v, len(x))
		}
	}
	return fmt.Sprint(len(x)), nil
}
