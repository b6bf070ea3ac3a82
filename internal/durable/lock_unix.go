// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package durable

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks an open file against other processes, and other open files of this one. busy: somebody else has it.
func tryLock(f *os.File) (busy bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	return errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR), err
}
