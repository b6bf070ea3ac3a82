// SPDX-License-Identifier: Apache-2.0

package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Sentinels for errors.Is.
var (
	ErrArgument = errors.New("invalid argument")
	ErrNoGo     = errors.New("the Go toolchain's files were not found")
	ErrEmpty    = errors.New("the text is empty")
	ErrShort    = errors.New("the text is shorter than the context")
	ErrLarge    = errors.New("the text is too large")
	ErrUnknown  = errors.New("not in the vocabulary")
)

// DefaultLimit is the most bytes of a corpus unless said otherwise: what a small model reads in many hours.
const DefaultLimit = 32 << 20

// Corpus is a text with where it came from.
type Corpus struct {
	Name  string // for people: "Go source, 1234 files"
	Text  []byte
	Files int
}

// GoOptions says which of the Go source files GoSource takes.
type GoOptions struct {
	Limit     int64 // bytes at most; 0: DefaultLimit. The last file is cut at the end of a line
	Tests     bool  // also files that end in _test.go
	Generated bool  // also files that say that they were generated: long tables, for the most part
}

// GOROOT returns the folder of the Go toolchain: that of the environment variable, else what the command go says.
//
// Errors: ErrNoGo.
func GOROOT() (string, error) {
	if root := os.Getenv("GOROOT"); root != "" {
		return root, nil
	}
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if root := strings.TrimSpace(string(out)); err == nil && root != "" {
		return root, nil
	}
	return "", fmt.Errorf("GOROOT is not set and `go env GOROOT` does not say (%v): set GOROOT, or name a file: %w", err, ErrNoGo)
}

// generated is the line by which tools know generated files (go help generate).
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// GoSource reads the Go files under the toolchain's src, in the order of their paths, without testdata. An empty goroot stands for GOROOT().
//
// The same toolchain gives the same bytes on every machine. Errors: ErrNoGo when there are no such files, ErrArgument for a negative limit, or what reading a file says.
func GoSource(goroot string, o GoOptions) (*Corpus, error) {
	if o.Limit < 0 {
		return nil, fmt.Errorf("data: a limit of %d bytes: %w", o.Limit, ErrArgument)
	}
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	src, err := source(goroot)
	if err != nil {
		return nil, fmt.Errorf("data: Go source: %w", err)
	}
	c := new(Corpus)
	err = filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error { // in the order of names within each folder
		if err != nil {
			return err
		}
		name := d.Name()
		switch {
		case d.IsDir():
			if path != src && (name == "testdata" || name[0] == '.' || name[0] == '_') {
				return fs.SkipDir
			}
			return nil
		case !d.Type().IsRegular() || !strings.HasSuffix(name, ".go") || !o.Tests && strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !o.Generated && generated.Match(text) {
			return nil
		}
		return c.add(text, o.Limit)
	})
	if err != nil && !errors.Is(err, fs.SkipAll) {
		return nil, fmt.Errorf("data: Go source: %w", err)
	}
	if len(c.Text) == 0 {
		return nil, fmt.Errorf("data: no Go files under %s: %w", src, ErrNoGo)
	}
	c.Name = fmt.Sprintf("Go source, %d files", c.Files)
	return c, nil
}

// source returns the toolchain's folder src, links followed: WalkDir does not follow its root.
func source(goroot string) (string, error) {
	if goroot == "" {
		var err error
		if goroot, err = GOROOT(); err != nil {
			return "", err
		}
	}
	src, err := filepath.EvalSymlinks(filepath.Join(goroot, "src"))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoGo, err)
	}
	return src, nil
}

// add appends a file, up to the limit. It returns fs.SkipAll when the limit is reached.
func (c *Corpus) add(text []byte, limit int64) error {
	room := limit - int64(len(c.Text))
	if int64(len(text)) <= room {
		c.Text, c.Files = append(c.Text, text...), c.Files+1
		return nil
	}
	if end := bytes.LastIndexByte(text[:room], '\n') + 1; end > 0 {
		c.Text, c.Files = append(c.Text, text[:end]...), c.Files+1
	}
	return fs.SkipAll
}

// Opticks reads Isaac Newton's Opticks, 567 KB of English, from the toolchain's test data. An empty goroot stands for GOROOT(). Errors: ErrNoGo when it is not there.
func Opticks(goroot string) (*Corpus, error) {
	src, err := source(goroot)
	if err != nil {
		return nil, fmt.Errorf("data: Opticks: %w", err)
	}
	c, err := File(filepath.Join(src, "testdata", "Isaac.Newton-Opticks.txt"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("data: Opticks: this toolchain was installed without its test data (%w): %w", err, ErrNoGo)
	}
	if err != nil {
		return nil, err
	}
	c.Name = "Newton's Opticks"
	return c, nil
}

// File reads a file. limit is the most bytes it may have, 0 for DefaultLimit. Errors: ErrLarge, ErrEmpty, or what reading says.
func File(path string, limit int64) (*Corpus, error) {
	if limit < 0 {
		return nil, fmt.Errorf("data: a limit of %d bytes: %w", limit, ErrArgument)
	}
	if limit == 0 {
		limit = DefaultLimit
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("data: %w", err)
	case int64(len(text)) > limit:
		return nil, fmt.Errorf("data: %s has more than %d bytes: %w", path, limit, ErrLarge)
	case len(text) == 0:
		return nil, fmt.Errorf("data: %s: %w", path, ErrEmpty)
	}
	return &Corpus{Name: filepath.Base(path), Text: text, Files: 1}, nil
}
