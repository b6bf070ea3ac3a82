// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/setun-compute/setun/quant/safetensors"
)

// TestFullDisk: a write that fails after some bytes, as on a full disk, leaves nothing. A limit on the size of files does that, in a process of its own.
func TestFullDisk(t *testing.T) {
	const variable = "COMPRESS_TEST_FULL"
	if args := os.Getenv(variable); args != "" {
		limit := syscall.Rlimit{Cur: 50_000, Max: 50_000}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Skip(err)
		}
		os.Exit(run(context.Background(), strings.Split(args, "\n"), os.Stdout, os.Stderr))
	}
	list := []safetensors.Tensor{}
	for _, x := range model(1) {
		for range 3 { // large enough for the first write, which is of 256 KiB, to be one of several
			x.Name += "+"
			list = append(list, x)
		}
	}
	in, dir := save(t, list), t.TempDir()
	packed := filepath.Join(t.TempDir(), "x.stn")
	done(t, in, packed)
	for _, args := range [][]string{{in, filepath.Join(dir, "x.stn")}, {in, filepath.Join(dir, "x.gguf")}, {"-decompress", packed, filepath.Join(dir, "x.safetensors")}} {
		c := exec.Command(os.Args[0], "-test.run=^TestFullDisk$")
		c.Env = append(os.Environ(), variable+"="+strings.Join(append(args, "-quiet"), "\n"))
		var stdout, stderr bytes.Buffer
		c.Stdout, c.Stderr = &stdout, &stderr
		c.Run()
		if code := c.ProcessState.ExitCode(); code != 1 || stdout.Len() > 0 || !strings.Contains(stderr.String(), args[len(args)-1]) || !strings.Contains(stderr.String(), "file too large") {
			t.Errorf("%v: exit code %d, %q, %s", args, code, stdout.String(), stderr.String())
		}
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("%v: left behind: %v", args, left)
		}
	}
}
