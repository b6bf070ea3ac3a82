// SPDX-License-Identifier: Apache-2.0

//go:build unix

package admit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// other is the number of a user that is neither root nor the one who runs the tests.
const other = 54321

// folder makes folders, one below the other, that only we can write, and returns the path of each.
func folder(t *testing.T, names ...string) []string {
	t.Helper()
	path := t.TempDir()
	chmod(t, path, 0o755)
	list := []string{path}
	for _, name := range names {
		path = filepath.Join(path, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		chmod(t, path, 0o755) // whatever the umask
		list = append(list, path)
	}
	return list
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func chown(t *testing.T, path string, uid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	if err := os.Chown(path, uid, -1); err != nil {
		t.Fatal(err)
	}
}

// content is that of a library for this machine.
func content(t *testing.T) []byte {
	t.Helper()
	machine, known := elfMachines[runtime.GOARCH]
	if !known {
		t.Skipf("no native backends for %s", runtime.GOARCH)
	}
	return newImage(machine).bytes()
}

// put writes a library into a folder and returns its path.
func put(t *testing.T, folder string) string {
	t.Helper()
	path := filepath.Join(folder, "libone.so")
	write(t, path, content(t))
	return path
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	chmod(t, path, 0o644)
}

// note writes a manifest that lists data as the library.
func note(t *testing.T, folder string, data []byte) string {
	t.Helper()
	path := filepath.Join(folder, ManifestName)
	write(t, path, fmt.Appendf(nil, "%x  libone.so\n", sha256.Sum256(data)))
	return path
}

// admits fails unless the file is admitted.
func admits(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// denies fails unless the file is refused for that reason.
func denies(t *testing.T, path string, want error) string {
	t.Helper()
	f, err := Open(path)
	if err == nil {
		f.Close()
		t.Fatalf("%s was admitted", path)
	}
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", path, err, want)
	}
	return err.Error()
}
