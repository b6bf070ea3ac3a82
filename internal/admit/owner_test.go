// SPDX-License-Identifier: Apache-2.0

//go:build unix

package admit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mends runs the command that a message ends with, and fails unless the library is admitted then.
func mends(t *testing.T, message, path string) {
	t.Helper()
	_, command, found := strings.Cut(message, "to mend it: ")
	if !found {
		t.Fatalf("%q names no command", message)
	}
	if out, err := exec.Command("/bin/sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v %s", command, err, out)
	}
	admits(t, path)
}

func TestF20WorldWritable(t *testing.T) {
	for _, mode := range []os.FileMode{0o666, 0o646, 0o664, 0o602} {
		t.Run(fmt.Sprintf("%04o", mode), func(t *testing.T) {
			path := put(t, folder(t, "it's here")[1])
			chmod(t, path, mode)
			message := denies(t, path, ErrUnsafe)
			if !strings.Contains(message, path) || !strings.Contains(message, fmt.Sprintf("%04o", mode)) {
				t.Errorf("%q does not say which file or what mode", message)
			}
			mends(t, message, path)
		})
	}
}

func TestF20WritableParent(t *testing.T) {
	for above := range 3 {
		for _, mode := range []os.FileMode{0o777, 0o775, 0o757} {
			t.Run(fmt.Sprintf("%d above, %04o", above, mode), func(t *testing.T) {
				folders := folder(t, "a", "b")
				path := put(t, folders[2])
				bad := folders[2-above]
				chmod(t, bad, mode)
				message := denies(t, path, ErrUnsafe)
				if !strings.Contains(message, bad+" can be written") || strings.Count(message, "can be written") != 1 {
					t.Errorf("%q does not say which folder", message)
				}
				mends(t, message, path)
			})
		}
	}
}

// TestF20AllIsSaidAtOnce: one command mends a tree that a umask of 0002 made.
func TestF20AllIsSaidAtOnce(t *testing.T) {
	folders := folder(t, "a", "b")
	path := put(t, folders[2])
	for _, p := range folders[1:] {
		chmod(t, p, 0o775)
	}
	chmod(t, path, 0o664)
	message := denies(t, path, ErrUnsafe)
	if want := "chmod go-w " + folders[1] + " " + folders[2] + " " + path; !strings.HasSuffix(message, want) {
		t.Errorf("%q does not end with %q", message, want)
	}
	mends(t, message, path)
}

// TestF20StickyParent: where everybody can put files a library must not lie, but its folder may.
func TestF20StickyParent(t *testing.T) {
	folders := folder(t, "tmp", "mine")
	chmod(t, folders[1], 0o777|os.ModeSticky)
	admits(t, put(t, folders[2]))
	path := put(t, folders[1])
	if message := denies(t, path, ErrUnsafe); !strings.Contains(message, "a folder of its own") {
		t.Errorf("%q does not say what to do", message)
	}
	chmod(t, folders[1], 0o755|os.ModeSticky) // which nobody else can write
	admits(t, path)
}

// TestF20StickyParentOfOthers: the sticky bit binds neither who owns the folder nor who owns what is in it.
func TestF20StickyParentOfOthers(t *testing.T) {
	folders := folder(t, "tmp", "mine")
	path := put(t, folders[2])
	chmod(t, folders[1], 0o777|os.ModeSticky)
	chown(t, folders[1], other)
	denies(t, path, ErrUnsafe)
	chown(t, folders[1], 0)
	chown(t, folders[2], other)
	denies(t, path, ErrUnsafe)
}

func TestF20OtherOwner(t *testing.T) {
	for _, c := range []string{"file", "folder", "folder above"} {
		t.Run(c, func(t *testing.T) {
			folders := folder(t, "a", "b")
			path := put(t, folders[2])
			bad := map[string]string{"file": path, "folder": folders[2], "folder above": folders[1]}[c]
			chown(t, bad, other)
			message := denies(t, path, ErrUnsafe)
			if !strings.Contains(message, fmt.Sprintf("%s belongs to user %d", bad, other)) {
				t.Errorf("%q does not say whose", message)
			}
			mends(t, message, path)
		})
	}
}

func TestF20SymbolicLink(t *testing.T) {
	folders := folder(t, "a", "b")
	real := put(t, folders[2])
	link := filepath.Join(folders[1], "libone.so")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	if message := denies(t, link, ErrUnsafe); !strings.Contains(message, "symbolic link") {
		t.Errorf("%q does not say why", message)
	}
	// On the way to the file they are followed, and what is really above it counts.
	way := filepath.Join(folders[0], "way")
	if err := os.Symlink(folders[2], way); err != nil {
		t.Fatal(err)
	}
	admits(t, filepath.Join(way, "libone.so"))
	chmod(t, folders[1], 0o777)
	if message := denies(t, filepath.Join(way, "libone.so"), ErrUnsafe); !strings.Contains(message, folders[1]+" can be written") {
		t.Errorf("%q does not name the folder that is really above", message)
	}
}

func TestF20UnsafeManifest(t *testing.T) {
	folders := folder(t, "a")
	path := put(t, folders[1])
	manifest := note(t, folders[1], content(t))
	if !admits(t, path).Manifest {
		t.Error("the manifest was not seen")
	}
	chmod(t, manifest, 0o666)
	if message := denies(t, path, ErrUnsafe); !strings.Contains(message, manifest) {
		t.Errorf("%q does not name the manifest", message)
	}
	chmod(t, manifest, 0o644)
	aside := filepath.Join(folders[0], "aside")
	if err := os.Rename(manifest, aside); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(aside, manifest); err != nil {
		t.Fatal(err)
	}
	denies(t, path, ErrUnsafe)
	if err := os.Remove(manifest); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(manifest, 0o755); err != nil {
		t.Fatal(err)
	}
	denies(t, path, ErrDigest)
	if err := os.Remove(manifest); err != nil {
		t.Fatal(err)
	}
	note(t, folders[1], content(t))
	chown(t, manifest, other)
	denies(t, path, ErrUnsafe)
}

// TestForeignLibraries may be reached by links and belong to anybody, but not be everybody's.
func TestForeignLibraries(t *testing.T) {
	folders := folder(t, "a", "b")
	path, link := put(t, folders[2]), filepath.Join(folders[1], "libone.so.1")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	try := func(p string) error {
		f, err := OpenForeign(p)
		if err == nil {
			if f.LoadPath() != path || !f.ByPath() || f.Digest != (Digest{}) {
				t.Errorf("%+v, %s", f, f.LoadPath())
			}
			err = f.Unchanged()
			f.Close()
		}
		return err
	}
	chmod(t, path, 0o664)
	if err := try(link); err != nil {
		t.Errorf("refused: %v", err)
	}
	chmod(t, folders[1], 0o777)
	if err := try(link); err == nil || !strings.Contains(err.Error(), folders[1]) {
		t.Errorf("everybody's folder: %v", err)
	}
	chmod(t, folders[1], 0o755)
	chmod(t, path, 0o666)
	if err := try(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("everybody's file: %v", err)
	}
	chmod(t, path, 0o644)
	chown(t, path, other)
	if err := try(path); err != nil {
		t.Errorf("somebody else's: %v", err)
	}
}
