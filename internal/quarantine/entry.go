// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/setun-compute/setun/backends"
)

// Load is the op of an entry for a whole library.
const Load = "load"

// Bounds of texts in the files.
const (
	maxName   = 255
	maxPath   = 4096
	maxReason = 1000
	maxCount  = 1_000_000_000
)

// Library is the identity under which something is remembered of a library: what is known of it on one driver, machine or contract says nothing of another.
type Library struct {
	Digest   string `json:"digest"`           // SHA-256 of the file, in hexadecimal
	File     string `json:"file"`             // its name, for people
	Driver   string `json:"driver,omitempty"` // version of the driver that it works with
	Machine  string `json:"machine"`          // processor and operating system
	Contract string `json:"contract"`         // version of the ABI and of the probe
}

// same says whether two identities are of one library; its name does not matter.
func (l Library) same(o Library) bool {
	l.File = o.File
	return l == o
}

// Entry is a library, or one op of it, that is not used.
type Entry struct {
	Library
	Op     string    `json:"op"` // of all its kernels; "load" for the whole library
	Reason string    `json:"reason"`
	Count  int       `json:"count"` // how often that happened
	Time   time.Time `json:"time"`  // the last time, for people: clocks jump
}

// String says what happened and how to lift it.
func (e Entry) String() string {
	times := ""
	if e.Count > 1 {
		times = fmt.Sprintf(" (%d times)", e.Count)
	}
	what := "quarantined"
	if e.Op != Load {
		what = e.Op + " is quarantined"
	}
	return fmt.Sprintf("%s since %s%s: %s; to lift it: calibrate quarantine lift %s", what, e.Time.UTC().Format(time.DateOnly), times, e.Reason, e.Digest[:12])
}

// Wrong is what is not used of a library that may be loaded otherwise.
type Wrong struct {
	Op     string    `json:"op"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// Verdict is what a probe said of a library that may be loaded.
type Verdict struct {
	Library
	Scope   string        `json:"scope"` // processors and devices that were there: with others other kernels would have been tested
	Version string        `json:"version"`
	Build   string        `json:"build"`
	Kernels int           `json:"kernels"` // tested
	Took    time.Duration `json:"took_ns"`
	Wrong   []Wrong       `json:"wrong,omitempty"` // what was quarantined of it then: the list of that may be lost, and nobody would try the library again

	Path    string `json:"path,omitempty"`    // of the file that a name led to
	Missing string `json:"missing,omitempty"` // why a name led to none

	written bool // it is in the file as well
}

// Entries are what the verdict says is not to be used.
func (v *Verdict) Entries() (list []Entry) {
	for _, w := range v.Wrong {
		list = append(list, Entry{Library: v.Library, Op: w.Op, Reason: w.Reason, Count: 1, Time: w.Time})
	}
	return list
}

var errInvalid = errors.New("not valid")

func (l *Library) check() error {
	if !isHex(l.Digest, 64) || !isHex(l.Machine, 16) || !isText(l.File, 1, maxName) || strings.ContainsAny(l.File, `/\`) || !isText(l.Driver, 0, maxName) || !isText(l.Contract, 1, 32) {
		return fmt.Errorf("%w: the identity of a library", errInvalid)
	}
	return nil
}

func (e *Entry) check() error {
	if err := e.Library.check(); err != nil {
		return err
	}
	if !isOp(e.Op) || !isText(e.Reason, 1, maxReason) || e.Count < 1 || e.Count > maxCount || e.Time.Year() < 1970 || e.Time.Year() > 9999 {
		return fmt.Errorf("%w: the entry for %s", errInvalid, e.Digest)
	}
	return nil
}

func (v *Verdict) check() error {
	if err := v.Library.check(); err != nil {
		return err
	}
	if slices.ContainsFunc(v.Entries(), func(e Entry) bool { return e.check() != nil }) || !isText(v.Scope, 1, maxReason) || !isText(v.Version, 0, maxReason) || !isText(v.Build, 0, maxReason) || !isText(v.Path, 0, maxPath) || !isText(v.Missing, 0, maxReason) || v.Kernels < 0 || v.Kernels > maxCount || v.Took < 0 {
		return fmt.Errorf("%w: the verdict on %s", errInvalid, v.Digest)
	}
	return nil
}

func isOp(name string) bool {
	if name == Load {
		return true
	}
	for _, op := range backends.Ops() {
		if op.String() == name {
			return true
		}
	}
	return false
}

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

func isText(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// Clean makes one line of at most so many bytes of a text that may be anything.
func Clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	for len(s) > most {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
