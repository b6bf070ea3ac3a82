// SPDX-License-Identifier: Apache-2.0

// Package mpitest runs programs with mpirun in tests.
package mpitest

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// limit is how long a program may take: one that waits for a rank that does not come must fail the test, not hang it.
const limit = time.Minute

// Command runs a program as n ranks. Without mpirun the test is skipped and says so; where the variable CI is set it fails, so that nobody takes a test that never ran for one that passed.
func Command(t *testing.T, n, program string, args ...string) *exec.Cmd {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no MPI is known on this system")
	}
	path, err := exec.LookPath("mpirun")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI is set and there is no mpirun (apt install openmpi-bin): %v", err)
		}
		t.Skipf("not tested with MPI: %v", err)
	}
	flags := []string{"-n", n}
	if version, err := exec.CommandContext(t.Context(), path, "--version").Output(); err != nil {
		t.Fatalf("%s: %v", path, err)
	} else if strings.Contains(string(version), "Open MPI") || strings.Contains(string(version), "OpenRTE") {
		flags = append(flags, "--oversubscribe")
		if os.Getuid() == 0 {
			flags = append(flags, "--allow-run-as-root")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, append(append(flags, program), args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // so that it ends its ranks
	cmd.WaitDelay = 10 * time.Second
	return cmd
}
