// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// Process is what a process holds of its system.
type Process struct {
	Resident   int64 `json:"resident"` // bytes
	Threads    int   `json:"threads"`
	Files      int   `json:"files"` // descriptors
	Goroutines int   `json:"goroutines"`
}

// measure asks the system, once garbage is given back. Zero values where it does not say.
func measure() (p Process) {
	runtime.GC()
	debug.FreeOSMemory()
	p.Goroutines = runtime.NumGoroutine()
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			p.Resident = kib << 10
		}
		fmt.Sscanf(line, "Threads: %d", &p.Threads)
	}
	files, _ := os.ReadDir("/proc/self/fd")
	p.Files = len(files)
	return p
}
