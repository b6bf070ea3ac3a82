// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

func TestManifestIsReadStrictly(t *testing.T) {
	digest := Digest(sha256.Sum256([]byte("one")))
	line := func(name string) string { return digest.String() + "  " + name + "\n" }
	for name, c := range map[string]struct {
		text  string
		found bool
		word  string
	}{
		"listed":         {line("libone.so"), true, ""},
		"among others":   {line("liba.so") + line("libone.so") + line("libz.so"), true, ""},
		"binary mark":    {digest.String() + " *libone.so\n", true, ""},
		"capitals":       {strings.ToUpper(digest.String()) + "  libone.so\n", true, ""},
		"line of DOS":    {digest.String() + "  libone.so\r\n", true, ""},
		"not listed":     {line("libtwo.so"), false, ""},
		"longer name":    {line("libone.so.1"), false, ""},
		"with a folder":  {line("./libone.so"), false, ""},
		"empty":          {"", false, "line's end"},
		"empty line":     {line("libone.so") + "\n", false, "line 2"},
		"cut":            {strings.TrimSuffix(line("libone.so"), "\n"), false, "line's end"},
		"twice":          {line("libone.so") + line("libone.so"), false, "again"},
		"short digest":   {digest.String()[1:] + "  libone.so\n", false, "line 1"},
		"no digest":      {strings.Repeat("g", 64) + "  libone.so\n", false, "line 1"},
		"one space":      {digest.String() + " libone.so\n", false, "line 1"},
		"no name":        {digest.String() + "  \n", false, "line 1"},
		"escaped":        {"\\" + line("libone.so"), false, "line 1"},
		"too many lines": {strings.Repeat("\n", maxEntries+1), false, "more than"},
		"too long":       {strings.Repeat("x", maxManifest+1), false, "more than"},
	} {
		d, found, err := lookUp([]byte(c.text), "libone.so")
		if found != c.found || (err == nil) != (c.word == "") || err != nil && !strings.Contains(err.Error(), c.word) || found && d != digest {
			t.Errorf("%s: %v, %v, %v", name, d, found, err)
		}
	}
}

// TestTornManifests: cut at any byte a manifest either says what it said about a file, or is refused, or does not list the file; it never says something else.
func TestTornManifests(t *testing.T) {
	var text strings.Builder
	want := map[string]Digest{}
	for i := range 3 {
		name := fmt.Sprintf("lib%d.so", i)
		want[name] = sha256.Sum256([]byte(name))
		fmt.Fprintf(&text, "%s  %s\n", want[name], name)
	}
	for n := range text.Len() {
		for name, digest := range want {
			d, found, err := lookUp([]byte(text.String()[:n]), name)
			if found && (err != nil || d != digest) {
				t.Errorf("cut at %d: %s has %v, %v", n, name, d, err)
			}
		}
	}
}

// FuzzManifest: any bytes get an answer, and only a line of the file gives a digest.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(strings.Repeat("ab", 32)+"  libone.so\n"), "libone.so")
	f.Add([]byte("\n\n"), "")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		d, found, err := lookUp(data, name)
		if found && err == nil && !strings.Contains(strings.ToLower(string(data)), d.String()) {
			t.Errorf("%v is not in %q", d, data)
		}
	})
}
