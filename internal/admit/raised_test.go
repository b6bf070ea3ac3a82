// SPDX-License-Identifier: Apache-2.0

//go:build linux

package admit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRaised runs a copy of this program with privileges that its user lacks, and asks it whom it trusts.
func TestRaised(t *testing.T) {
	if os.Getenv("SETUN_ADMIT_TEST_CHILD") != "" {
		fmt.Printf("raised=%v env=%q ignored=%v root=%v self=%v user=%v foreign=%+v\n", Raised(), Getenv("SETUN_BACKEND_PATH"), Ignored("SETUN_BACKEND_PATH", "SETUN_BLAS"),
			trusted(0), trusted(uint32(os.Geteuid())), trusted(uint32(os.Getuid())), theirs())
		os.Exit(0)
	}
	if Raised() || Getenv("PATH") != os.Getenv("PATH") || Ignored("PATH") != nil {
		t.Errorf("this process is not raised: %v", Ignored("PATH"))
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make programs that run as somebody else")
	}
	dir := folder(t, "bin")
	chmod(t, filepath.Dir(dir[0]), 0o755) // for the other user
	for _, c := range []struct {
		name     string
		mode     os.FileMode
		uid, gid int    // of the program
		user     uint32 // who runs it
		want     string
	}{
		{"plain", 0o755, 0, 0, other, `raised=false env="/x" ignored=[] root=true self=true user=true`},
		{"setuid", 0o755 | os.ModeSetuid, other + 1, 0, other, `raised=true env="" ignored=[SETUN_BACKEND_PATH] root=true self=true user=false foreign={owners:true`},
		{"setuid root", 0o755 | os.ModeSetuid, 0, 0, other, `raised=true env="" ignored=[SETUN_BACKEND_PATH] root=true self=true user=false`},
		{"setgid", 0o755 | os.ModeSetgid, 0, other + 1, other, `raised=true env="" ignored=[SETUN_BACKEND_PATH] root=true self=false user=false`},
	} {
		t.Run(c.name, func(t *testing.T) {
			program := filepath.Join(dir[1], strings.ReplaceAll(c.name, " ", "-"))
			copyProgram(t, program)
			if err := os.Chown(program, c.uid, c.gid); err != nil {
				t.Fatal(err)
			}
			chmod(t, program, c.mode)
			cmd := exec.Command(program, "-test.run=^TestRaised$")
			cmd.Dir = "/"
			cmd.Env = []string{"SETUN_ADMIT_TEST_CHILD=1", "SETUN_BACKEND_PATH=/x"}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.user, Gid: c.user}}
			out, err := cmd.CombinedOutput()
			if errors.Is(err, syscall.ENOEXEC) {
				t.Skip("this program runs in an emulator, which its copies would need too")
			}
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if c.mode&(os.ModeSetuid|os.ModeSetgid) != 0 && strings.HasPrefix(string(out), "raised=false") {
				t.Skipf("set-user-ID programs are not honoured in %s", dir[1])
			}
			if !strings.HasPrefix(string(out), c.want) {
				t.Errorf("%s, want %s", out, c.want)
			}
		})
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(self)
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
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
