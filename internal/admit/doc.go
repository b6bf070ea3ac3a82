// SPDX-License-Identifier: Apache-2.0

// Package admit decides whether a file may be loaded as native code, before any of it runs: a truncated library kills the process inside the loader, and one that others can write is theirs.
//
// A file is opened once. Its owner and mode, the folders above it, its digest and its structure are checked on that descriptor, and the loader is given the same descriptor where the system can: what
// was checked is what is loaded. docs/loading.md says what is checked where, and how to mend what is refused.
package admit
