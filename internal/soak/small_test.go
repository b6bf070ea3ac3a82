// SPDX-License-Identifier: Apache-2.0

//go:build linux

package soak

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const smallVariable = "SETUN_SOAK_SMALL" // the process is one with little: "memory" or "processor"

// TestSmallMachines: F28, everything with 256 MiB of memory; F29, on one processor.
func TestSmallMachines(t *testing.T) {
	switch os.Getenv(smallVariable) {
	case "memory":
		const limit = 256 << 20 // of data: what Go has reserved and does not use is no part of it
		if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			t.Fatal(err)
		}
		under(t, Options{Duration: time.Second, Workers: 8, Most: 20_000})
		return
	case "processor":
		if runtime.GOMAXPROCS(0) != 1 {
			t.Fatalf("%d processors", runtime.GOMAXPROCS(0))
		}
		under(t, Options{Duration: time.Second, Workers: 8, Most: 20_000, Chaos: true, Every: 50 * time.Millisecond})
		return
	}
	if raceDetector {
		t.Skip("the race detector takes more memory than that")
	}
	// Two processors: each thread of a kernel has a stack, which counts.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, two unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for i := 0; two.Count() < 2 && i < len(all)*64; i++ {
		if all.IsSet(i) {
			two.Set(i)
		}
	}
	if err := unix.SchedSetaffinity(0, &two); err != nil {
		t.Fatal(err)
	}
	defer unix.SchedSetaffinity(0, &all)
	for name, processors := range map[string]string{"F28 memory": "2", "F29 processor": "1"} {
		_, small, _ := strings.Cut(name, " ")
		cmd := exec.Command(os.Args[0], "-test.run=^TestSmallMachines$", "-test.v")
		cmd.Env = append(os.Environ(), smallVariable+"="+small, "GOMAXPROCS="+processors)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestSmallMachines") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
