// SPDX-License-Identifier: Apache-2.0

//go:build unix

package admit

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// atSecure is the entry of Linux's auxiliary vector that is not 0 in a program that was started with privileges that its user lacks: by setuid, setgid or file capabilities.
const atSecure = 23

// Raised says whether this process has privileges that the user who started it lacks, so that the environment is not to be believed.
func Raised() bool {
	if os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		return true
	}
	if runtime.GOOS != "linux" {
		return false
	}
	vector, err := unix.Auxv()
	if err != nil {
		return false
	}
	for _, entry := range vector {
		if entry[0] == atSecure {
			return entry[1] != 0
		}
	}
	return false
}
