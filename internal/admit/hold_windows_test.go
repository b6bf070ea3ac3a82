// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
)

// TestNobodyTouchesWhatIsHeld: while a library is held it can be read and loaded, and neither written nor renamed nor deleted.
func TestNobodyTouchesWhatIsHeld(t *testing.T) {
	dir, err := os.MkdirTemp("", "admit")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // old versions of wine cannot
	data, err := os.ReadFile(filepath.Join(os.Getenv("SystemRoot"), "system32", "kernel32.dll"))
	if err != nil {
		t.Skipf("no DLL to take a copy of: %v", err)
	}
	path := filepath.Join(dir, "one.dll")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if !f.ByPath() || f.LoadPath() != path || f.Unchanged() != nil || f.Manifest || f.Digest != sha256.Sum256(data) {
		t.Errorf("%+v: %v", f, f.Unchanged())
	}
	if err := os.Rename(path, path+".away"); err == nil {
		t.Error("it was renamed")
	}
	if err := os.Remove(path); err == nil {
		t.Error("it was deleted")
	}
	if w, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		w.Close()
		t.Error("it was opened for writing")
	}
	if r, err := os.Open(path); err != nil {
		t.Errorf("it cannot be read: %v", err)
	} else {
		r.Close()
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ManifestName), fmt.Appendf(nil, "%x *one.dll\n", sha256.Sum256(data)), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = Open(path); err != nil || !f.Manifest {
		t.Fatalf("with a manifest: %v", err)
	}
	f.Close()
	if err := os.WriteFile(path, append(data, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrDigest) {
		t.Errorf("with another digest: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "no.dll")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := Open(dir); !errors.Is(err, backends.ErrLibrary) || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a folder: %v", err)
	}
}

// TestF4TruncatedDLLs cuts a DLL at every byte of its headers and every 64 behind.
func TestF4TruncatedDLLs(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(os.Getenv("SystemRoot"), "system32", "kernel32.dll"))
	if err != nil {
		t.Skipf("no DLL to cut: %v", err)
	}
	cutPE(t, data)
}
