// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package raisedtest lets a test run its own program with privileges that its user lacks, to see whom it believes then.
package raisedtest

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// User is who runs the program.
const User = 12345

// Folder makes one that User can read, with copies of files, which belong to root. It skips the test unless that is who runs it.
func Folder(t *testing.T, files ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make programs that run as somebody else")
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // whatever the umask
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range files {
		put(t, f, filepath.Join(dir, filepath.Base(f)), 0o755)
	}
	return dir
}

// Run runs a test of this program as User, raised to root or not, with an environment of its own, and returns what it said. It skips the test where the system takes no notice of set-user-ID.
func Run(t *testing.T, folder, test string, raised bool, environment ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(folder, "plain")
	if raised {
		program = filepath.Join(folder, "raised")
		var fs syscall.Statfs_t
		if err := syscall.Statfs(folder, &fs); err != nil || fs.Flags&nosuid != 0 {
			t.Skipf("set-user-ID programs are not honoured in %s: %v", folder, err)
		}
	}
	put(t, self, program, 0o755)
	if raised { // nobody but User shall be able to run it as root; a change of owner takes the privilege away, so once more
		if err := errors.Join(os.Chown(program, 0, User), os.Chmod(program, 0o750|os.ModeSetuid)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "-test.run=^"+test+"$")
	cmd.Dir, cmd.Env = "/", environment
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: User, Gid: User}}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.ENOEXEC) {
		t.Skip("this program runs in an emulator, which its copies would need too")
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

const nosuid = 2 // ST_NOSUID

// put copies a file.
func put(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(out.Close(), os.Chmod(to, mode)); err != nil {
		t.Fatal(err)
	}
}
