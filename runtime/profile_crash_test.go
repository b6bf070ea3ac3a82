// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/internal/durable/crashtest"
)

const savedAt = "/home/user/.cache/setun/profile.json"

var createdAt = regexp.MustCompile(`"created": "[^"]*"`)

// profileText is the file's text without the time at which it was made, "" when there is none. What is not a whole profile is an error, unless it is the damaged one.
func profileText(damaged string) func(durable.Files) (string, error) {
	return func(f durable.Files) (string, error) {
		data, err := f.ReadFile(savedAt, maxProfile)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err == nil && (damaged == "" || string(data) != damaged) {
			_, err = dispatch.DecodeProfile(data, fingerprint)
		}
		return createdAt.ReplaceAllString(string(data), ""), err
	}
}

func profileSaves() map[string]*crashtest.Save {
	save := func(kernel string) func(durable.Files) error {
		return func(f durable.Files) error { return saveLearnedTo(f, reportOf(), savedAt, lesson(kernel, 20), nil) }
	}
	has := func(text string) bool { return strings.Contains(text, `"kernel": "second"`) }
	const damaged = `{"schema": 2, "fingerprint"`
	put := func(text string) func(durable.Files) error {
		return func(f durable.Files) error { return f.WriteFile(savedAt, []byte(text), 0o644) }
	}
	list := map[string]*crashtest.Save{
		"first":  {Path: savedAt, New: save("second"), Load: profileText(""), Again: has},
		"merged": {Path: savedAt, Old: save("first"), New: save("second"), Load: profileText(""), Again: has},
		"damaged": {Path: savedAt, Old: put(damaged), New: save("second"), Again: has, Aside: []string{"profile.json.old", "profile.json.old.2"},
			Load: func(f durable.Files) (string, error) {
				text, err := profileText(damaged)(f)
				if err != nil || text == damaged {
					return text, err
				}
				if b, err := f.ReadFile(savedAt+".old", maxProfile); string(b) != damaged { // it must be here
					return "", fmt.Errorf("what was damaged is lost: %q, %w", b, err)
				}
				if text == "" {
					text = damaged
				}
				return text, nil
			}},
	}
	return list
}

func TestF22ProfileWithAFailingDisk(t *testing.T) {
	for name, s := range profileSaves() {
		t.Run(name, s.Failures)
	}
}

func TestF23ProfileAfterAPowerLoss(t *testing.T) {
	for name, s := range profileSaves() {
		t.Run(name, s.Crashes)
	}
}

// A profile of somebody else's stays as it is, whatever happens while one is saved beside it.
func TestF23ForeignProfileAfterAPowerLoss(t *testing.T) {
	theirs, err := (&dispatch.Profile{Fingerprint: "another machine", Models: lesson("k", 20)}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	ours := beside(savedAt, fingerprint)
	s := &crashtest.Save{Path: ours, Aside: []string{"profile.json", "profile.json.lock"},
		Old: func(f durable.Files) error {
			return errors.Join(f.WriteFile(savedAt, theirs, 0o644), saveLearnedTo(f, reportOf(), savedAt, lesson("first", 20), nil))
		},
		New:   func(f durable.Files) error { return saveLearnedTo(f, reportOf(), savedAt, lesson("second", 20), nil) },
		Again: func(text string) bool { return strings.Contains(text, `"kernel": "second"`) },
		Load: func(f durable.Files) (string, error) {
			if data, err := f.ReadFile(savedAt, maxProfile); err != nil || !bytes.Equal(data, theirs) {
				return "", fmt.Errorf("theirs has become %q, %v", data, err)
			}
			data, err := f.ReadFile(ours, maxProfile)
			return createdAt.ReplaceAllString(string(data), ""), err
		}}
	s.Crashes(t)
}

// profileVariable makes this program a process that saves profiles.
const profileVariable = "SETUN_TEST_PROFILE"

const classes = 60 // that each process learns of

func init() {
	path := os.Getenv(profileVariable)
	if path == "" {
		return
	}
	io.ReadAll(os.Stdin) // the other one is there too
	for class := 0; class < classes; {
		switch err := saveLearned(reportOf(), path, lesson(os.Args[1], class), nil); {
		case err == nil:
			class++
		case !errors.Is(err, durable.ErrLocked):
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(0)
}

// Two processes save what they learn: at any time the file is whole, and in the end it has what each of them learned.
func TestF24TwoProcessesSaveProfiles(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "setun", "profile.json")
	done := make(chan error, 2)
	var start []io.Closer
	for _, kernel := range []string{"one", "two"} {
		c := exec.CommandContext(t.Context(), self, kernel)
		c.Env = append(os.Environ(), profileVariable+"="+path)
		var said bytes.Buffer
		c.Stderr = &said
		in, err := c.StdinPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		start = append(start, in)
		go func() {
			err := c.Wait()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, said.String())
			}
			done <- err
		}()
	}
	for _, in := range start {
		in.Close()
	}
	var p *dispatch.Profile
	for left := 2; left > 0; {
		select {
		case err := <-done:
			if left--; err != nil {
				t.Error(err)
			}
		default:
		}
		time.Sleep(time.Millisecond) // leaves the processors to them
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && p == nil {
			continue
		}
		if err == nil {
			p, err = dispatch.DecodeProfile(data, fingerprint)
		}
		if err != nil {
			t.Fatalf("%v: %q", err, data)
		}
		if again, err := p.Encode(); !bytes.Equal(again, data) {
			t.Fatalf("nobody has written %q (%v)", data, err)
		}
	}
	if p == nil || len(p.Models) != 2 || len(p.Models[0].Cells) != classes || len(p.Models[1].Cells) != classes {
		t.Errorf("something is lost: %+v", p)
	}
	unlock, err := durable.Lock(path, 0)
	if err != nil {
		t.Fatalf("a lock was left: %v", err)
	}
	unlock()
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 2 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}
