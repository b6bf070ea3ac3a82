// SPDX-License-Identifier: Apache-2.0

//go:build unix

package durable_test

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/setun-compute/setun/internal/durable"
)

// A pipe that nobody writes to, a device that never ends and a folder are refused, and not waited for.
func TestF21NoFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, "/dev/zero", t.TempDir()} {
		if data, err := (durable.Files{}).ReadFile(path, 100); !errors.Is(err, durable.ErrNotRegular) || data != nil {
			t.Errorf("%s: %d bytes, %v", path, len(data), err)
		}
	}
}
