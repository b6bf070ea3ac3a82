// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/setun-compute/setun/internal/npy"
)

// demo makes the npy file of -demo out of what every machine with Go has: the files below GOROOT/src.
func demo(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already; leave -demo out to use it", path)
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	values, err := blocks(ctx, filepath.Join(strings.TrimSpace(string(root)), "src"))
	if err != nil {
		return err
	}
	return npy.WriteFile(path, values, len(values)/256, 256)
}

// blocks turns each whole block of 4 KiB of the files below root into a row of 256 values, the square roots of the shares of each byte: the
// distance of two rows is √2 times the Hellinger distance of what they count.
func blocks(ctx context.Context, root string) ([]float32, error) {
	const block = 4096
	var values []float32
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(name)
		for ; err == nil && len(text) >= block; text = text[block:] {
			var count [256]int
			for _, b := range text[:block] {
				count[b]++
			}
			for _, n := range count {
				values = append(values, float32(math.Sqrt(float64(n)/block)))
			}
		}
		return err
	})
	return values, err
}
