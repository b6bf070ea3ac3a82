// SPDX-License-Identifier: Apache-2.0

//go:build linux

package plugin

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/setun-compute/setun/internal/admit"
)

// rogue is tiny with another version and a constructor that leaves a trace.
func rogue(t testing.TB) (path, flag string) {
	t.Helper()
	flag = filepath.Join(private(t), "it-ran")
	source := `#include <stdio.h>
__attribute__((constructor)) static void loaded(void) { FILE *f = fopen(FLAG, "w"); if (f) fclose(f); }
` + strings.Replace(tiny, `"tiny", "1"`, `"tiny", "rogue"`, 1)
	return build(t, source, append(arguments(), `-DFLAG="`+flag+`"`)...), flag
}

// TestF20SymlinkSwap loads a library 1000 times while somebody puts another in its place, by renaming files, links to files, and links to folders. What is loaded is the one that passed the checks, or nothing.
func TestF20SymlinkSwap(t *testing.T) {
	good, _ := versions(t)
	bad, flag := rogue(t)
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	digest := fmt.Appendf(nil, "%x  libtiny.so\n", sha256.Sum256(data))
	for _, c := range []struct {
		name    string
		refused error // why the rogue is, when it is the one that is found
		before  func(dir string)
		spoil   func(t *testing.T, rogue string) // what is wrong with the rogue
	}{
		{"digest", admit.ErrDigest, func(dir string) { put(t, filepath.Join(dir, admit.ManifestName), digest) }, nil},
		{"mode", admit.ErrUnsafe, nil, func(t *testing.T, rogue string) {
			if err := os.Chmod(rogue, 0o666); err != nil {
				t.Fatal(err)
			}
		}},
		{"owner", admit.ErrUnsafe, nil, func(t *testing.T, rogue string) {
			if os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			if err := os.Chown(rogue, 54321, -1); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSwap(t, good, bad)
			for _, dir := range []string{s.real, s.fake} {
				if c.before != nil {
					c.before(dir)
				}
			}
			if c.spoil != nil {
				c.spoil(t, s.rogue)
				c.spoil(t, filepath.Join(s.fake, "libtiny.so"))
			}
			s.race(t, c.refused)
			if _, err := os.Stat(flag); err == nil {
				t.Error("the rogue's constructor ran")
			}
		})
	}
}

// swap is a stage for races: a folder with the library, one with the rogue in its place, and a link that leads to the one or the other.
type swap struct {
	real, fake, way string // folders; way is the link
	good, rogue     string // files to be put in the library's place, on the same file system
}

func newSwap(t *testing.T, good, bad string) *swap {
	t.Helper()
	dir := private(t)
	s := &swap{real: filepath.Join(dir, "real"), fake: filepath.Join(dir, "fake"), way: filepath.Join(dir, "way"), good: filepath.Join(dir, "good.so"), rogue: filepath.Join(dir, "rogue.so")}
	for _, d := range []string{s.real, s.fake} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	move(t, duplicate(t, good, s.good+".1"), filepath.Join(s.real, "libtiny.so"))
	move(t, duplicate(t, bad, s.rogue+".1"), filepath.Join(s.fake, "libtiny.so"))
	duplicate(t, good, s.good)
	duplicate(t, bad, s.rogue)
	if err := os.Symlink(s.real, s.way); err != nil {
		t.Fatal(err)
	}
	return s
}

// attack puts the rogue in the library's place and takes it away again, in turn in each of the three ways, until it is told to stop. The last state is the good one.
func (s *swap) attack(stop <-chan struct{}) error {
	path, aside := filepath.Join(s.real, "libtiny.so"), s.real+".aside"
	link := func(to, name string) error { // replaces what is there in one step
		_ = os.Remove(aside)
		return errors.Join(os.Symlink(to, aside), os.Rename(aside, name))
	}
	file := func(from string) error {
		_ = os.Remove(aside)
		return errors.Join(os.Link(from, aside), os.Rename(aside, path))
	}
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		var err error
		switch i % 3 {
		case 0:
			err = errors.Join(file(s.rogue), file(s.good))
		case 1:
			err = errors.Join(link(s.rogue, path), file(s.good))
		case 2:
			err = errors.Join(link(s.fake, s.way), link(s.real, s.way))
		}
		if err != nil {
			return err
		}
	}
}

// race loads while the attack goes on, at least 1000 times and until both have been seen: the good library, and a refusal for the expected reason.
func (s *swap) race(t *testing.T, want error) {
	t.Helper()
	stop := make(chan struct{})
	var attacker sync.WaitGroup
	var failed error
	attacker.Go(func() { failed = s.attack(stop) })
	loaded, refused, linked := 0, 0, 0
	rounds, limit := 1000, 100_000
	if testing.Short() {
		rounds = 100
	}
	for i := 0; !t.Failed() && (i < rounds || i < limit && (loaded == 0 || refused == 0)); i++ {
		name := fmt.Sprintf("%s%d", s.way, i) // a path that the loader has not seen yet, or it would look no further
		if err := os.Symlink(s.way, name); err != nil {
			t.Error(err)
			break
		}
		switch b, a := one(filepath.Join(name, "libtiny.so")); {
		case b != nil && a.Version == "1" && works(b):
			loaded++
		case b == nil && a.State == Refused && errors.Is(a.Err, admit.ErrUnsafe) && strings.Contains(a.Reason, "symbolic link"):
			linked++
		case b == nil && a.State == Refused && errors.Is(a.Err, want):
			refused++
		default:
			t.Errorf("load %d: %+v", i, a)
		}
	}
	close(stop)
	if attacker.Wait(); failed != nil {
		t.Error(failed)
	}
	if t.Logf("%d loaded, %d refused, %d times there was a link", loaded, refused, linked); loaded == 0 || refused == 0 {
		t.Error("the one or the other was never seen: nothing was raced")
	}
}

// TestF20ByPath: a system where the loader cannot be given the descriptor, and the file that is checked again before and after.
func TestF20ByPath(t *testing.T) {
	path := library(t)
	if entry, err := Symbol(path, "setun_backend"); err != nil || entry == 0 {
		t.Errorf("%v", err)
	}
	f, err := admit.OpenForeign(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bad, flag := rogue(t)
	move(t, bad, path)
	if entry, err := openAdmitted(f, "setun_backend"); !errors.Is(err, admit.ErrUnsafe) || entry != 0 {
		t.Errorf("%#x, %v", entry, err)
	}
	if _, err := os.Stat(flag); err == nil {
		t.Error("the rogue's constructor ran")
	}
}
