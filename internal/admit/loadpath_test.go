// SPDX-License-Identifier: Apache-2.0

//go:build linux

package admit

import (
	"strings"
	"testing"
)

// TestSpellings: the same content has the same path at the same descriptor, another content another path; and without /proc there is none.
func TestSpellings(t *testing.T) {
	f := admits(t, put(t, folder(t, "a")[1]))
	if f.ByPath() || !strings.HasPrefix(f.LoadPath(), descriptors) {
		t.Fatalf("loaded by %s", f.LoadPath())
	}
	if again := loadPath(f.File, f.info, f.Digest); again != f.LoadPath() {
		t.Errorf("%s and %s", f.LoadPath(), again)
	}
	seen := map[string]bool{f.LoadPath(): true}
	for bit := range 64 {
		d := f.Digest
		d[bit/8] ^= 1 << (bit % 8)
		path := loadPath(f.File, f.info, d)
		if path == "" || seen[path] {
			t.Errorf("bit %d: %q", bit, path)
		}
		seen[path] = true
	}
	for _, folder := range []string{"/nowhere/self/fd/", "/proc/self/fdinfo/"} { // not there, and another file
		if path := loadPathIn(folder, f.File, f.info, f.Digest); path != "" {
			t.Errorf("%s leads to the file", path)
		}
	}
}
