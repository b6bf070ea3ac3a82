// SPDX-License-Identifier: Apache-2.0

package durable

// unsupportedSync: Windows has no sync for folders.
func unsupportedSync(error) bool { return true }
