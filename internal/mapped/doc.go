// SPDX-License-Identifier: Apache-2.0

// Package mapped gives a file's bytes without reading them, where the system can: they are in the page cache and take no memory of the process. A file that another program cuts short
// while it is mapped ends the process (SIGBUS), as with every mapping.
package mapped
