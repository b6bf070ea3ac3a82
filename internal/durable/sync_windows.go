// SPDX-License-Identifier: Apache-2.0

package durable

const (
	noWait      = 0
	closedFirst = true // open files can be neither renamed nor removed
)

// unsupportedSync: Windows has no sync for folders.
func unsupportedSync(error) bool { return true }
