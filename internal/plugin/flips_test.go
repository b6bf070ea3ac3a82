// SPDX-License-Identifier: Apache-2.0

//go:build linux

package plugin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/admit"
)

// flipsVariable names the file that tells a child of TestF5BitFlips what to load.
const flipsVariable = "SETUN_PLUGIN_TEST_FLIPS"

// TestF5BitFlips flips a bit of a library, 1000 times. With a manifest each is refused. Without one most load, and some kill the process that loads them: a child.
func TestF5BitFlips(t *testing.T) {
	if list := os.Getenv(flipsVariable); list != "" {
		loadFlips(list)
		os.Exit(0)
	}
	const seed = 20
	flips := 1000
	if testing.Short() {
		flips = 100
	}
	r := rand.New(rand.NewPCG(seed, seed))
	whole, err := os.ReadFile(library(t))
	if err != nil {
		t.Fatal(err)
	}
	listed, bare := private(t), private(t)
	manifest := fmt.Appendf(nil, "")
	var paths []string
	for i := range flips {
		name := fmt.Sprintf("flip%d.so", i)
		data := bytes.Clone(whole)
		data[r.IntN(len(data))] ^= 1 << r.IntN(8)
		put(t, filepath.Join(listed, name), data)
		put(t, filepath.Join(bare, name), data)
		manifest = fmt.Appendf(manifest, "%x  %s\n", sha256.Sum256(whole), name)
		paths = append(paths, filepath.Join(bare, name))
	}
	put(t, filepath.Join(listed, admit.ManifestName), manifest)
	verdicts := map[string]int{}
	var rest []string
	for i, path := range paths {
		if b, a := one(filepath.Join(listed, filepath.Base(path))); b != nil || !errors.Is(a.Err, admit.ErrDigest) {
			t.Errorf("flip %d, with a manifest: %s, %s", i, a.State, a.Reason)
		}
		f, err := admit.Open(path)
		switch {
		case err == nil:
			f.Close()
			rest = append(rest, path)
		case errors.Is(err, backends.ErrLibrary):
			verdicts["refused by its headers"]++
		default:
			t.Errorf("flip %d: %v", i, err)
		}
	}
	for len(rest) > 0 {
		lines := flipsInChild(t, rest)
		for _, verdict := range lines {
			verdicts[verdict]++
		}
		if rest = rest[len(lines):]; len(rest) > 0 {
			verdicts["killed the child"]++
			rest = rest[1:]
		}
	}
	sum := 0
	for _, n := range verdicts {
		sum += n
	}
	t.Logf("without a manifest: %v", verdicts)
	if sum != flips || verdicts["refused by its headers"] == 0 || verdicts["works"] == 0 {
		t.Errorf("%d of %d are accounted for, or none was noticed, or none worked", sum, flips)
	}
}

// flipsInChild has a child load libraries one after the other, and returns what it said before it died or was through.
func flipsInChild(t *testing.T, paths []string) []string {
	t.Helper()
	list := filepath.Join(private(t), "list")
	put(t, list, []byte(strings.Join(paths, "\n")))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // one that never ends counts as one that dies
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "-test.run=^TestF5BitFlips$")
	cmd.Env = append(os.Environ(), flipsVariable+"="+list, "GOTRACEBACK=none")
	out, _ := cmd.Output() // that it dies is what it is there for
	var said []string
	for line := range strings.Lines(string(out)) {
		if verdict, ours := strings.CutPrefix(line, "flip: "); ours {
			said = append(said, strings.TrimSpace(verdict))
		}
	}
	return said
}

// loadFlips is the child.
func loadFlips(list string) {
	paths, err := os.ReadFile(list)
	if err != nil {
		return
	}
	for path := range strings.SplitSeq(string(paths), "\n") {
		switch b, a := one(path); {
		case b == nil:
			fmt.Printf("flip: %s when loaded\n", a.State)
		case works(b):
			fmt.Println("flip: works")
		default:
			fmt.Println("flip: answers wrongly")
		}
	}
}
