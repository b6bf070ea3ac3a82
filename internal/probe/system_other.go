// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package probe

import (
	"os"
	"os/exec"
)

func self() (string, error) { return os.Executable() }

// give makes the child's standard output the result: there is no way to hand over other descriptors. The library is loaded by its path, whose digest the child takes again.
func give(c *exec.Cmd, s *spec, _, result *os.File) {
	c.Stdout = result
	s.Library, s.Result = 0, 1
}

// inherit takes standard output for the result.
func inherit(*spec) (result *os.File) { return os.Stdout }

func apart(*exec.Cmd) {}

func end(p *os.Process) error { return p.Kill() }

func signalled(*os.ProcessState) string { return "" }

// restrain: there are no such limits here.
func restrain(*spec) error { return nil }

func strangers() int { return 0 }
