// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// self is the program that runs, though its file may have been replaced meanwhile.
func self() (string, error) {
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// apart gives the child a process group of its own, so that all that it starts can be ended, and has it end with the thread that started it.
func apart(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// restrain limits what the library can take. CUDA reserves as much address space as there is memory in all devices and the host, and its driver keeps what it compiled in files.
func restrain(s *spec) error {
	limits := map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_CPU: uint64(s.Seconds)}
	if s.Name != cudaName {
		limits[unix.RLIMIT_FSIZE] = 0
		if used := addressSpace(); used > 0 { // beyond what a race detector or a sanitizer has reserved already; threads reserve their stacks and heaps
			limits[unix.RLIMIT_AS] = used + 4<<30 + uint64(s.Cores)*(256<<20)
		}
	}
	for what, most := range limits {
		var l unix.Rlimit
		if err := unix.Getrlimit(what, &l); err != nil {
			return err
		}
		l.Max = min(l.Max, most)
		l.Cur = min(l.Cur, l.Max)
		if err := unix.Setrlimit(what, &l); err != nil {
			return err
		}
	}
	return nil
}

func addressSpace() uint64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(statm), " ")
	pages, err := strconv.ParseUint(first, 10, 40)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

// strangers counts the threads that Go did not make.
func strangers() int {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0
	}
	ours, _ := runtime.ThreadCreateProfile(nil)
	return len(tasks) - ours
}
