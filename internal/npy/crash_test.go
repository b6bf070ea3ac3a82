// SPDX-License-Identifier: Apache-2.0

package npy

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/internal/durable/crashtest"
	"github.com/setun-compute/setun/internal/floats"
)

const savedAt = "/home/user/vectors.npy"

// saved writes a file of n values; of some, more than are encoded at once.
func saved(n int) func(durable.Files) error {
	return func(files durable.Files) error { return writeIn(files, savedAt, values(n), n) }
}

// content says how many values a file has, all of which must be its last one's number.
func content(files durable.Files) (string, error) {
	data, err := files.ReadFile(savedAt, 1<<21)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	h, err := ParseHeader(data, int64(len(data)))
	if err != nil {
		return "", err
	}
	x := make([]float32, h.Count)
	floats.FromFloat32(x, data[h.Offset:])
	for _, v := range x {
		if v != float32(len(x)) {
			return "", fmt.Errorf("a value is %v, of %d", v, len(x))
		}
	}
	return fmt.Sprint(len(x)), nil
}

// values are n times n.
func values(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(n)
	}
	return x
}

func saves() map[string]*crashtest.Save {
	return map[string]*crashtest.Save{
		"first":   {Path: savedAt, New: saved(10), Load: content},
		"longer":  {Path: savedAt, Old: saved(10), New: saved(100_000), Load: content},
		"shorter": {Path: savedAt, Old: saved(1000), New: saved(10), Load: content},
	}
}

func TestF22FileWithAFailingDisk(t *testing.T) {
	for name, s := range saves() {
		t.Run(name, s.Failures)
	}
}

func TestF23FileAfterAPowerLoss(t *testing.T) {
	for name, s := range saves() {
		t.Run(name, s.Crashes)
	}
}
