// SPDX-License-Identifier: Apache-2.0

//go:build unix

package probe

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// give hands the child its descriptors: 3 is the library, where it can be loaded by that, 4 the result.
func give(c *exec.Cmd, s *spec, library, result *os.File) {
	c.ExtraFiles = []*os.File{library, result}
	if s.Result = 4; s.Library != 0 {
		s.Library = 3
	}
}

// inherit takes the descriptors, which the library must not pass on to what it may start.
func inherit(s *spec) (result *os.File) {
	unix.CloseOnExec(s.Result)
	if s.Library > 0 {
		unix.CloseOnExec(s.Library)
	}
	return os.NewFile(uintptr(s.Result), "result")
}

// end kills the child and what it has started.
func end(p *os.Process) error {
	err := syscall.Kill(-p.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// signalled names the signal that a process died of, or returns nothing.
func signalled(p *os.ProcessState) string {
	status, ok := p.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return ""
	}
	if name := unix.SignalName(status.Signal()); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", status.Signal())
}
