// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package probe

import (
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

func self() (string, error) { return os.Executable() }

// apart gives the child a process group of its own, so that all that it starts can be ended.
func apart(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// restrain limits what the library can take: it writes no files and leaves no dump. There is no limit for address space that all these systems know.
func restrain(*spec) error {
	for _, what := range []int{unix.RLIMIT_CORE, unix.RLIMIT_FSIZE} {
		if err := unix.Setrlimit(what, &unix.Rlimit{}); err != nil {
			return err
		}
	}
	return nil
}

// strangers: how many threads a process has is not known here.
func strangers() int { return 0 }
