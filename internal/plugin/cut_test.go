// SPDX-License-Identifier: Apache-2.0

//go:build linux

package plugin

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/setun-compute/setun/internal/admit"
)

// TestF4TruncatedLibraries cuts a library at every byte of its headers and every 64 bytes behind, and loads what is left: here, in this process, which must survive.
func TestF4TruncatedLibraries(t *testing.T) {
	whole, err := os.ReadFile(library(t))
	if err != nil {
		t.Fatal(err)
	}
	headers := 64 + 56*int(binary.LittleEndian.Uint16(whole[56:]))
	dir := private(t)
	path := filepath.Join(dir, "cut.so")
	put(t, path, whole)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cuts := 0
	for n := len(whole) - 1; n >= 0; n-- { // shorter every time: nothing need be written
		if n > headers && n%64 != 0 {
			continue
		}
		if err := file.Truncate(int64(n)); err != nil {
			t.Fatal(err)
		}
		cuts++
		if b, a := one(path); b != nil || a.State != Refused || !errors.Is(a.Err, admit.ErrDamaged) {
			t.Errorf("cut at %d of %d: %s, %s", n, len(whole), a.State, a.Reason)
		}
	}
	t.Logf("%d cuts", cuts)
}

// TestF4TruncatedBehindTheSegments: without a table of sections at its end a library may lack bytes that nothing needs. What is let through works.
func TestF4TruncatedBehindTheSegments(t *testing.T) {
	whole, err := os.ReadFile(library(t))
	if err != nil {
		t.Fatal(err)
	}
	e, err := elf.NewFile(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	end := uint64(0)
	for _, p := range e.Progs {
		end = max(end, p.Off+p.Filesz)
	}
	clear(whole[40:48]) // where the table is, and
	clear(whole[60:62]) // how many entries it has
	dir := private(t)
	let := 0
	for n := int(end) - 64; n < len(whole); n += 16 {
		path := filepath.Join(dir, fmt.Sprintf("cut%d.so", n))
		put(t, path, whole[:n])
		b, a := one(path)
		switch {
		case b == nil && (n >= int(end) || !errors.Is(a.Err, admit.ErrDamaged)):
			t.Errorf("cut at %d, the segments end at %d: %s", n, end, a.Reason)
		case b != nil && (n < int(end) || !works(b)):
			t.Errorf("cut at %d, the segments end at %d: loaded, and works: %v", n, end, works(b))
		case b != nil:
			let++
		}
	}
	if let == 0 {
		t.Error("nothing was let through")
	}
}
