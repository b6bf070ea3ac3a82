// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package durable

import (
	"errors"
	"syscall"
)

const (
	noWait      = syscall.O_NONBLOCK // opens a pipe that nobody writes to
	closedFirst = false              // open files can be renamed and removed
)

// unsupportedSync reports whether the file system has no sync for folders.
func unsupportedSync(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP)
}
