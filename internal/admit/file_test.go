// SPDX-License-Identifier: Apache-2.0

//go:build unix

package admit

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/setun-compute/setun/backends"
)

func TestOpenTellsWhatIsLoaded(t *testing.T) {
	dir := folder(t, "a")[1]
	path := put(t, dir)
	f := admits(t, path)
	if f.Path != path || f.Manifest || len(f.Digest.String()) != 64 || f.Digest == (Digest{}) || f.LoadPath() == "" || f.ByPath() != (f.LoadPath() == path) {
		t.Errorf("%+v", f)
	}
	there, err := os.Stat(f.LoadPath())
	if err != nil || !os.SameFile(there, f.info) {
		t.Errorf("%s leads elsewhere: %v", f.LoadPath(), err)
	}
	if err := f.Unchanged(); err != nil {
		t.Errorf("%v", err)
	}
	note(t, dir, content(t))
	if g := admits(t, path); !g.Manifest || g.Digest != f.Digest {
		t.Errorf("%+v", g)
	}
}

// TestF1Missing: a file that is not there is no more than that, whether its folder is or not.
func TestF1Missing(t *testing.T) {
	dir := folder(t, "a")[1]
	for _, path := range []string{filepath.Join(dir, "libone.so"), filepath.Join(dir, "no", "libone.so")} {
		denies(t, path, fs.ErrNotExist)
		denies(t, path, backends.ErrLibrary)
	}
	if _, err := OpenForeign(filepath.Join(dir, "libone.so")); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, backends.ErrLibrary) {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNoLibrary(t *testing.T) {
	dir := folder(t, "a")[1]
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("empty"), nil)
	write(t, at("text"), []byte("hello"))
	write(t, at("vast"), content(t))
	if err := os.Truncate(at("vast"), maxSize+1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(at("pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, word := range map[string]string{"empty": "is empty", "text": "not a shared library", "vast": "more than the limit", "pipe": "not a regular file", ".": "not a regular file", "text/deeper": "not a directory"} {
		if message := denies(t, at(name), backends.ErrLibrary); !strings.Contains(message, word) {
			t.Errorf("%s: %q, want %q", name, message, word)
		}
	}
	for _, open := range []func(string) (*File, error){Open, OpenForeign} {
		if _, err := open("libone.so"); !errors.Is(err, backends.ErrLibrary) || !strings.Contains(err.Error(), "not absolute") {
			t.Errorf("relative: %v", err)
		}
	}
}

// TestF5BitFlips: with a manifest every one is noticed.
func TestF5BitFlips(t *testing.T) {
	const seed = 5
	r := rand.New(rand.NewPCG(seed, seed))
	dir := folder(t, "a")[1]
	path, whole := put(t, dir), content(t)
	note(t, dir, whole)
	file, err := os.OpenFile(path, os.O_WRONLY, 0) // in place, since new files cost a flush each
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for range 1000 {
		at := r.IntN(len(whole))
		if _, err := file.WriteAt([]byte{whole[at] ^ 1<<r.IntN(8)}, int64(at)); err != nil {
			t.Fatal(err)
		}
		denies(t, path, ErrDigest)
		if _, err := file.WriteAt(whole[at:at+1], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	if !admits(t, path).Manifest {
		t.Error("the sound one was not seen in the manifest")
	}
}

func TestDigestMessages(t *testing.T) {
	dir := folder(t, "a")[1]
	path := put(t, dir)
	is := admits(t, path).Digest.String()
	manifest := note(t, dir, []byte("another"))
	message := denies(t, path, ErrDigest)
	for _, word := range []string{path, is, manifest, "make native"} {
		if !strings.Contains(message, word) {
			t.Errorf("%q does not say %q", message, word)
		}
	}
	write(t, manifest, []byte(is+"  libtwo.so\n"))
	if message := denies(t, path, ErrDigest); !strings.Contains(message, "does not list libone.so") || !strings.Contains(message, is) {
		t.Errorf("%q", message)
	}
	write(t, manifest, []byte("torn"))
	if message := denies(t, path, ErrDigest); !strings.Contains(message, manifest) {
		t.Errorf("%q", message)
	}
}

// TestF20WrittenMeanwhile: what was written or replaced between check and load is noticed.
func TestF20WrittenMeanwhile(t *testing.T) {
	dir := folder(t, "a")[1]
	path := put(t, dir)
	f := admits(t, path)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	if err := f.Unchanged(); !errors.Is(err, ErrUnsafe) {
		t.Errorf("after writing: %v", err)
	}
	path = put(t, folder(t, "b")[1])
	f = admits(t, path)
	f.load = "" // as without /proc
	if f.LoadPath() != path || !f.ByPath() || f.Unchanged() != nil {
		t.Errorf("by its path: %s, %v", f.LoadPath(), f.Unchanged())
	}
	write(t, path+".new", content(t))
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if err := f.Unchanged(); !errors.Is(err, ErrUnsafe) {
		t.Errorf("after replacing: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := f.Unchanged(); !errors.Is(err, ErrUnsafe) {
		t.Errorf("after removing: %v", err)
	}
}

func TestNothingIsLeftOpen(t *testing.T) {
	dir := folder(t, "a")[1]
	path := put(t, dir)
	lowest := func() uintptr {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return f.Fd()
	}
	before := lowest()
	for i := range 5 {
		switch i {
		case 1:
			note(t, dir, content(t))
		case 2:
			note(t, dir, nil)
		case 3:
			chmod(t, filepath.Join(dir, ManifestName), 0o666)
		case 4:
			chmod(t, path, 0o666)
		}
		if f, err := Open(path); err == nil {
			f.Close()
		}
		_, _ = Open(path + ".no")
	}
	if after := lowest(); after != before {
		t.Errorf("the next descriptor is %d, and was %d", after, before)
	}
}

// BenchmarkOpen is what the checks cost, the digest of a library of this checkout included.
func BenchmarkOpen(b *testing.B) {
	for _, name := range []string{"simd_c", "cpp", "cuda"} {
		path, err := filepath.Abs("../../native/build/release/libsetun_" + name + ".so")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := os.Stat(path); err != nil {
			b.Skipf("no native library (run make native): %v", err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f, err := Open(path)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(f.info.Size())
				f.Close()
			}
		})
	}
}
