// SPDX-License-Identifier: Apache-2.0

//go:build linux

package plugin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/admit"
)

// private returns a folder that only we can write, whatever the umask.
func private(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// move renames a file, over another if there is one.
func move(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// one loads the library at a path.
func one(path string) (*Backend, Attempt) {
	b, tried := Load("tiny", []Place{{Path: path, File: true}})
	return b, tried[0]
}

// works says whether the kernel of tiny gives the right answer.
func works(b *Backend) bool {
	a := backends.Reduce{X: []float32{1, 1}}
	return len(b.Kernels()) == 1 && b.Reduce(b.Kernels()[0], &a) == nil && a.Result == 2
}

// duplicate copies a file and returns the copy's path.
func duplicate(t *testing.T, from, to string) string {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	put(t, to, data)
	return to
}

// versions builds tiny twice; the libraries differ in what they say their version is.
func versions(t testing.TB) (first, second string) {
	t.Helper()
	change := func(version string) string {
		return build(t, strings.Replace(tiny, `"tiny", "1"`, `"tiny", "`+version+`"`, 1), arguments()...)
	}
	return change("1"), change("2")
}

// TestOneNumberTwoLibraries: a descriptor's number is used again for the next library, which must not be mistaken for the last.
func TestOneNumberTwoLibraries(t *testing.T) {
	first, second := versions(t)
	for range 3 {
		for version, path := range map[string]string{"1": first, "2": second} {
			if b, a := one(path); b == nil || a.Version != version || a.ByPath || len(a.Digest) != 64 {
				t.Errorf("%s: %+v", path, a)
			}
		}
	}
}

// TestOneLibraryTwoNumbers: opened by another descriptor, or under another name, a library is the one that is there.
func TestOneLibraryTwoNumbers(t *testing.T) {
	path := build(t, strings.Replace(tiny, `"tiny", "1"`, `"tiny", "of its own"`, 1), arguments()...) // the same content is one library, whichever copy came first
	link := filepath.Join(private(t), "link.so")
	if err := os.Link(path, link); err != nil {
		t.Fatal(err)
	}
	var entries []uintptr
	for _, p := range []string{path, path, link} {
		f, err := admit.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close() // all are open at once
		entry, err := openAdmitted(f, "setun_backend")
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry)
	}
	if entries[0] == 0 || entries[0] != entries[1] || entries[0] != entries[2] {
		t.Errorf("entries at %#x", entries)
	}
}

// TestErrorsNameTheFile and not the descriptor by which the loader knows it.
func TestErrorsNameTheFile(t *testing.T) {
	path := build(t, `extern int nowhere(void); int setun_backend(void); int setun_backend(void) { return nowhere(); }`, "-shared", "-fPIC")
	b, a := one(path)
	if b != nil || a.State != Refused || !errors.Is(a.Err, backends.ErrLibrary) || !strings.Contains(a.Reason, path) || strings.Contains(a.Reason, "/proc/") || !strings.Contains(a.Reason, "nowhere") {
		t.Errorf("%+v", a)
	}
}
