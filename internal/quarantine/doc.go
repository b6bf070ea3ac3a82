// SPDX-License-Identifier: Apache-2.0

// Package quarantine remembers from one process to the next which libraries, and which of their ops, brought a process down or gave wrong results.
//
// A folder holds a list of what is quarantined, the verdicts of probes, and one file for each living process that says what it is using for the first time. When a process dies, the next one finds that file
// without a lock on it, and quarantines what was in use. What is in kernels that have been used before is noted in mapped memory, and is tried again when a process ended in it. Nothing in the folder can stop a program: what cannot be read is set aside, and a note says so.
package quarantine
