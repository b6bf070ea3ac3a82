// SPDX-License-Identifier: Apache-2.0

package durable_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/setun-compute/setun/internal/durable"
)

// childVariable makes this program a process that saves: what it says, and the arguments after it.
const childVariable = "SETUN_TEST_DURABLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(childVariable); role {
	case "":
		os.Exit(m.Run())
	case "saves":
		exit(saveAtOnce(os.Args[1], os.Args[2]))
	case "dies":
		n, err := strconv.Atoi(os.Args[2])
		if err == nil {
			err = durable.Files{System: &mortal{durable.Machine, n}}.WriteFile(os.Args[1], []byte(newer), 0o600)
		}
		exit(err)
	default:
		exit(fmt.Errorf("no role %q", role))
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child is this program in another role.
func child(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, args...)
	c.Env = append(os.Environ(), childVariable+"="+role)
	return c
}

const rounds = 200

// version is what a process saves in a round: of any length, and to be known from its own text.
func version(id string, round int) []byte {
	body := strings.Repeat(fmt.Sprintf("%s of %d; ", id, round), 1+round*37%500)
	return fmt.Appendf(nil, "%x\n%s", sha256.Sum256([]byte(body)), body)
}

func isVersion(data []byte) bool {
	sum, body, found := bytes.Cut(data, []byte("\n"))
	return found && string(sum) == fmt.Sprintf("%x", sha256.Sum256(body))
}

// saveAtOnce saves without a lock, and counts in another file with one.
func saveAtOnce(dir, id string) error {
	if _, err := io.ReadAll(os.Stdin); err != nil { // the other one is there too
		return err
	}
	count := filepath.Join(dir, "count")
	for round := range rounds {
		if err := durable.WriteFile(filepath.Join(dir, "file"), version(id, round), 0o600); err != nil {
			return err
		}
		unlock, err := durable.Lock(count, time.Minute)
		if err != nil {
			return err
		}
		old, err := os.ReadFile(count)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		n, _ := strconv.Atoi(string(old))
		if err := durable.WriteFile(count, []byte(strconv.Itoa(n+1)), 0o600); err != nil {
			return err
		}
		unlock()
	}
	return nil
}

func TestF24TwoProcessesSaveAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	done := make(chan error, 2)
	var start []io.Closer
	for _, id := range []string{"one", "two"} {
		c := child(t, "saves", dir, id)
		var said bytes.Buffer
		c.Stderr = &said
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
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
	seen := map[string]bool{}
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
		switch {
		case errors.Is(err, fs.ErrNotExist) && len(seen) == 0:
		case err != nil || !isVersion(data):
			t.Fatalf("%v; %d bytes, %.100q", err, len(data), data)
		default:
			seen[string(data[:64])] = true
		}
	}
	if t.Logf("%d versions were seen", len(seen)); len(seen) == 0 {
		t.Error("no version was seen")
	}
	if n, err := os.ReadFile(filepath.Join(dir, "count")); string(n) != strconv.Itoa(2*rounds) {
		t.Errorf("counted to %q, %v", n, err)
	}
	unlock, err := durable.Lock(filepath.Join(dir, "count"), 0)
	if err != nil {
		t.Fatalf("a lock was left: %v", err)
	}
	unlock()
	if names := list(t, dir); strings.Join(names, " ") != "count count.lock file" {
		t.Errorf("left behind: %q", names)
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

// mortal is the machine's System in a process that is killed before its n-th operation.
type mortal struct {
	durable.System
	left int
}

func (m *mortal) step() {
	if m.left--; m.left == 0 {
		if p, err := os.FindProcess(os.Getpid()); err == nil && p.Kill() == nil {
			select {}
		}
	}
}

func (m *mortal) Exists(p string) (bool, error)          { m.step(); return m.System.Exists(p) }
func (m *mortal) ReadDir(p string) ([]string, error)     { m.step(); return m.System.ReadDir(p) }
func (m *mortal) Mkdir(p string, perm fs.FileMode) error { m.step(); return m.System.Mkdir(p, perm) }
func (m *mortal) Remove(p string) error                  { m.step(); return m.System.Remove(p) }
func (m *mortal) RemoveIdle(p string) error              { m.step(); return m.System.RemoveIdle(p) }
func (m *mortal) Rename(from, to string) error           { m.step(); return m.System.Rename(from, to) }
func (m *mortal) SyncDir(p string) error                 { m.step(); return m.System.SyncDir(p) }
func (m *mortal) CreateTemp(dir, pattern string) (durable.File, error) {
	m.step()
	f, err := m.System.CreateTemp(dir, pattern)
	return mortalFile{f, m}, err
}

type mortalFile struct {
	durable.File
	m *mortal
}

func (f mortalFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b[:len(b)/2])
	f.m.step()
	if err == nil {
		var more int
		more, err = f.File.Write(b[len(b)/2:])
		n += more
	}
	return n, err
}
func (f mortalFile) Chmod(p fs.FileMode) error { f.m.step(); return f.File.Chmod(p) }
func (f mortalFile) Sync() error               { f.m.step(); return f.File.Sync() }
func (f mortalFile) Close() error              { f.m.step(); return f.File.Close() }

// TestF23KilledAtEachStep kills real processes; on the machine's own file system, which keeps its power.
func TestF23KilledAtEachStep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "folder")
	path := filepath.Join(dir, "file")
	for n := 1; ; n++ {
		if err := durable.WriteFile(path, []byte(older), 0o600); err != nil {
			t.Fatal(err)
		}
		if names := list(t, dir); len(names) != 1 {
			t.Errorf("before %d: %q", n, names)
		}
		killed := child(t, "dies", path, strconv.Itoa(n)).Run() != nil
		text, err := os.ReadFile(path)
		if err != nil || string(text) != newer && (!killed || string(text) != older) {
			t.Errorf("killed before operation %d (%v): %q, %v", n, killed, text, err)
		}
		if names := list(t, dir); len(names) > 2 {
			t.Errorf("killed before operation %d: %q", n, names)
		}
		if !killed {
			if n < 8 {
				t.Errorf("only %d operations", n-1)
			}
			return
		}
	}
}

// What another process works on is not taken for a dead one's, nor is a file that only looks similar.
func TestF24OthersKeepTheirDrafts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, name := range []string{".file.1.tmp", ".file.x1.tmp", ".file.1.tm", ".file..tmp", "file.1.tmp", ".other.1.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".file.2.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	first, err := durable.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Write([]byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := first.Commit(0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); string(text) != "first" {
		t.Errorf("%q, %v", text, err)
	}
	if names := strings.Join(list(t, dir), " "); names != ".file..tmp .file.1.tm .file.2.tmp .file.x1.tmp .other.1.tmp file file.1.tmp" {
		t.Errorf("%s", names)
	}
	if err := first.Commit(0o600); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a second Commit: %v", err)
	}
	first.Discard()
	if text, err := os.ReadFile(path); string(text) != "first" {
		t.Errorf("after Discard: %q, %v", text, err)
	}
}
