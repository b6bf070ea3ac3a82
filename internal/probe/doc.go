// SPDX-License-Identifier: Apache-2.0

// Package probe tries a library in a process of its own before it is loaded into the program: a crash in native code cannot be caught, so it must happen elsewhere.
//
// The child is the program itself, started again: package initialization sees an environment variable, tries the library, reports and exits before any main function runs. So the program needs no
// change, and what is tried is what will run. Initialization of packages that do not depend on this one may come first. Programs that must not be started again name another one, such as calibrate, by
// SETUN_PROBE_HELPER. When a probe cannot be made the library is not loaded.
//
// What a probe said is kept, so that it is made once for each library, driver and machine: see package quarantine.
package probe
