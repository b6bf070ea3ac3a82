// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/setun-compute/setun/internal/gputest"
	"github.com/setun-compute/setun/train"
)

// TestDeviceOnCUDA: -device trains on the device to the checkpoint that the processor comes to, bit for bit, and another run may go on from it without one.
func TestDeviceOnCUDA(t *testing.T) {
	t.Setenv("SETUN_PROFILE", "none")
	if rt, err := (&command{device: "cuda"}).open(); err != nil {
		gputest.NoCUDA(t, err)
	} else if err := rt.Close(); err != nil {
		t.Fatal(err)
	}
	args, dir := append(files(t), "-json", "-steps", "6"), t.TempDir()
	folder := func(name string) string { return filepath.Join(dir, name) }
	for _, more := range [][]string{{"-out", folder("processor")}, {"-out", folder("device"), "-device", "cuda:0", "-stop", "4"}, {"-out", folder("device"), "-resume"}} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(args, more...), &out, &errs); code != 0 {
			t.Fatalf("%q: %d: %s", more, code, errs.String())
		}
		var s train.Summary
		if err := json.Unmarshal(out.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		for _, k := range s.Kernels {
			if on := strings.HasPrefix(k.Kernel, "cuda"); on != (len(more) == 6) {
				t.Errorf("%q: %s ran %d times on %s", more, k.Op, k.Calls, k.Kernel)
			}
		}
	}
	a, errA := os.ReadFile(filepath.Join(folder("processor"), "checkpoint.stn"))
	b, errB := os.ReadFile(filepath.Join(folder("device"), "checkpoint.stn"))
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("other checkpoints: %v, %v", errA, errB)
	}
}
