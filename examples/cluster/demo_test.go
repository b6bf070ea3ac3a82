// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBlocks(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string][]byte{
		"b":       append(bytes.Repeat([]byte("xxxy"), 1024), 'z'), // one block and a rest
		"a/tiny":  []byte("short"),
		"a/zeros": make([]byte, 8192),
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	values, err := blocks(context.Background(), root)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float32, 3*256)
	want[0], want[256] = 1, 1
	want[512+'x'], want[512+'y'] = 0.8660254, 0.5
	if len(values) != len(want) {
		t.Fatalf("%d values, want %d", len(values), len(want))
	}
	for i := range want {
		if values[i] != want[i] {
			t.Errorf("row %d, byte %d: %v, want %v", i/256, i%256, values[i], want[i])
		}
	}
}

func TestDemoReplacesNothing(t *testing.T) {
	file, _ := groups(t, 2, 20, 2)
	before, _ := payload(t, file)
	code, _, stderr := start("-demo", file, "-k", "2", "-out", filepath.Join(t.TempDir(), "out"))
	if after, _ := payload(t, file); code != 1 || !strings.Contains(stderr, "is there already") || !bytes.Equal(before, after) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
